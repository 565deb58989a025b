#!/bin/sh
cat >"${ANSWERS:-answers.json}" <<JSON
{"latest": {"default": {"services": [{
  "name": "web",
  "metadata": {"timeout": "5s"},
  "containers": [{"name": "web-2", "primary_ip": "10.0.0.2"}, {"name": "web-1", "primary_ip": "10.0.0.1"}]
}]}}}
JSON
curl -fsS -X POST "http://${RELOAD:-127.0.0.1:8112}/v1/reload"
