#!/bin/sh
exec confd -watch -backend zookeeper -node "${ZOOKEEPER:-127.0.0.1:2181}" -confdir .
