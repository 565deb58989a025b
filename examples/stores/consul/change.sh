#!/bin/sh
curl -fsS -X PUT --data-binary 10.0.0.2:80 "http://${CONSUL:-127.0.0.1:8500}/v1/kv/services/web/2"
