#!/bin/sh
# Strings are keys, and so are the fields of hashes.
redis-cli -u "redis://${REDIS:-127.0.0.1:6379}" <<END
SET /services/web/1 10.0.0.1:80
HSET /config/web timeout 5s
END
