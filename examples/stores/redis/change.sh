#!/bin/sh
# This endpoint leaves when nobody renews it for a minute.
redis-cli -u "redis://${REDIS:-127.0.0.1:6379}" SET /services/web/2 10.0.0.2:80 EX 60
