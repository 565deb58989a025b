#!/bin/sh
# Rancher itself says what runs: this is what its metadata service answers where a
# service web has one container, and "metadata: {timeout: 5s}" in its compose file.
# A service that runs by itself reads its answers from a file, and again when told.
cat >"${ANSWERS:-answers.json}" <<JSON
{"latest": {"default": {"services": [{
  "name": "web",
  "metadata": {"timeout": "5s"},
  "containers": [{"name": "web-1", "primary_ip": "10.0.0.1"}]
}]}}}
JSON
curl -fsS -X POST "http://${RELOAD:-127.0.0.1:8112}/v1/reload"
