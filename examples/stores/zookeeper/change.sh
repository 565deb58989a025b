#!/bin/sh
/usr/share/zookeeper/bin/zkCli.sh -server "${ZOOKEEPER:-127.0.0.1:2181}" create /services/web/2 10.0.0.2:80
