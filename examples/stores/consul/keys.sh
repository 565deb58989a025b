#!/bin/sh
# As "consul kv put services/web/1 10.0.0.1:80" does. Keys have no slash in front.
put() { curl -fsS -X PUT --data-binary "$2" "http://${CONSUL:-127.0.0.1:8500}/v1/kv/$1"; }
put services/web/1 10.0.0.1:80
put config/web/timeout 5s
