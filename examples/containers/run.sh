#!/bin/sh
# A small fleet on one Docker engine, with no registry; README.md tells the story.
#
#   run.sh up                 etcd, web1 and web2 (v1), web3 (v2), and the edge
#   run.sh nginx              the other edge: nginx, and confd that configures it
#   run.sh web N VERSION      one more web container, and its sidekick
#   run.sh down               all of it away
#
# FLEET is the network and begins every name, SUBNET are its addresses without
# the last number. BIND and PORT are where the edge is published, NGINX_PORT
# where nginx is; an empty port is a free one.
set -eu
cd "$(dirname "$0")"

fleet=${FLEET:-fleet}
subnet=${SUBNET:-10.83.0}
bind=${BIND:-127.0.0.1}
port=${PORT-8080}
nginx_port=${NGINX_PORT-8081}
service=docker-meetup-demo-web
etcd=etcd:2379 # by the network's own name service

# Every image is made here, of binaries that need nothing else.
images() {
	make -s -C ../.. rootfs
	docker build -q -t "$fleet/muster" ../..
	for version in v1 v2; do
		CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$work/web" ./web
		docker build -q -t "$fleet/web:$version" -f web/Dockerfile "$work"
	done
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$work/etcd" go.etcd.io/etcd/server/v3
	docker build -q -t "$fleet/etcd" -f etcd/Dockerfile "$work"
}

# start NAME [FLAGS] IMAGE [ARGS] runs a container in the fleet's network, where
# NAME is its host name.
start() {
	name=$1
	shift
	docker run -d --name "$fleet-$name" --hostname "$name" --network "$fleet" --network-alias "$name" "$@" >/dev/null
	echo "$fleet-$name"
}

# The sidekick announces the app while it answers, and has a network connection
# of its own: when the app's container ends, it still reaches etcd and withdraws
# the app. The app's address is fixed, because Docker gives the address of a
# container that ended to the next one, and that is not what this sidekick
# announces.
web() {
	start "web$1" --ip "$subnet.$((10 + $1))" "$fleet/web:$2"
	start "web$1-sidekick" -e "MUSTER_STORE=etcd://$etcd" "$fleet/muster" \
		sidekick "$service" -id "web$1" -addr "$subnet.$((10 + $1)):8080" -health http:/healthz
}

up() {
	images
	# The upper half is for those that ask for no address.
	docker network create --subnet "$subnet.0/24" --ip-range "$subnet.128/25" "$fleet" >/dev/null
	start etcd "$fleet/etcd"
	web 1 v1
	web 2 v1
	web 3 v2
	start edge -p "$bind:$port:8080" -e "MUSTER_STORE=etcd://$etcd" "$fleet/muster"
	echo "http://$(docker port "$fleet-edge" 8080/tcp)"
}

# Debian's nginx as it is installed here, what it needs, and a shell for the
# commands of the demo, as an image: no registry, no base image.
debian_nginx() {
	programs="/usr/sbin/nginx /bin/sh /bin/grep /bin/sleep"
	libraries=$(ldd $programs | grep -o '/[^ :]*\.so[^ :]*' | sort -u)
	tar -C / -chf - --no-recursion $programs $libraries etc/passwd etc/group \
		etc/nginx/nginx.conf etc/nginx/mime.types etc/nginx/conf.d var/lib/nginx var/log/nginx run |
		docker import - "$fleet/debian-nginx"
}

nginx() {
	debian_nginx
	docker build -q -t "$fleet/nginx" -f nginx/Dockerfile \
		--build-arg "NGINX=$fleet/debian-nginx" --build-arg "MUSTER=$fleet/muster" ..
	start nginx -p "$bind:$nginx_port:8080" -e "ETCD=$etcd" "$fleet/nginx"
	echo "http://$(docker port "$fleet-nginx" 8080/tcp)"
}

down() {
	docker ps -aq --filter "network=$fleet" | xargs -r docker rm -f -v
	docker network rm "$fleet"
	docker images --filter "reference=$fleet/*" --format '{{.Repository}}:{{.Tag}}' | xargs -r docker rmi
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case ${1-} in
up | nginx | down) "$1" ;;
web) web "$2" "$3" ;;
*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
