#!/bin/sh
# The load balancer's container: wait until confd could render nginx's
# configuration from etcd, then keep it in step while nginx serves.
ETCD=${ETCD:-127.0.0.1:2379}

until confd -onetime -node "$ETCD" -config-file /etc/confd/conf.d/nginx.toml; do
	echo "[nginx] waiting for confd to refresh nginx.conf"
	sleep 1
done

confd -interval 5 -node "$ETCD" -config-file /etc/confd/conf.d/nginx.toml &
echo "[nginx] confd is listening for changes on etcd..."

echo "[nginx] starting nginx"
exec nginx -g 'daemon off;'
