#!/bin/sh
# The command of a container: HAProxy, kept in step with etcd by confd.
ETCD=${ETCD:-127.0.0.1:2379}
CONFDIR=${CONFDIR:-/etc/confd}
CFG=${CFG:-/etc/haproxy/haproxy.cfg}
PIDFILE=${PIDFILE:-/run/haproxy.pid}

until confd -onetime -node "$ETCD" -confdir "$CONFDIR"; do
	echo "[haproxy] waiting for confd"
	sleep 1
done
confd -watch -node "$ETCD" -confdir "$CONFDIR" &

echo "[haproxy] starting"
exec haproxy -W -f "$CFG" -p "$PIDFILE"
