#!/bin/sh
# A node is a key, its data the value.
/usr/share/zookeeper/bin/zkCli.sh -server "${ZOOKEEPER:-127.0.0.1:2181}" <<END
create /services
create /services/web
create /services/web/1 10.0.0.1:80
create /config
create /config/web
create /config/web/timeout 5s
END
