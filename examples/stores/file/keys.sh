#!/bin/sh
# A volume as Kubernetes mounts a ConfigMap: links through ..data.
mkdir -p volume/..v1
cat > volume/..v1/services.yaml <<END
services:
  web: ["10.0.0.1:80"]
END
cat > volume/..v1/config.toml <<END
[config.web]
timeout = "5s"
END
ln -s ..v1 volume/..data
ln -s ..data/services.yaml ..data/config.toml volume/
