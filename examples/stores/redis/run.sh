#!/bin/sh
# notify-keyspace-events makes changes arrive at once. Without it they are looked
# for every second, and the log says so.
redis-cli -u "redis://${REDIS:-127.0.0.1:6379}" CONFIG SET notify-keyspace-events KA
exec confd -watch -backend redis -node "${REDIS:-127.0.0.1:6379}" -confdir .
