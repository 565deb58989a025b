#!/bin/sh
# The next version is made beside it, and swapped in.
cp -r volume/..v1 volume/..v2
cat > volume/..v2/services.yaml <<END
services:
  web: ["10.0.0.1:80", "10.0.0.2:80"]
END
ln -s ..v2 volume/..tmp
mv -T volume/..tmp volume/..data
rm -r volume/..v1
