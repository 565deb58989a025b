# make test     install what the tests need and pass them all (Debian, root)
# make build    ./muster, for this machine
# make rootfs   the static binary and /confd for the image, see Dockerfile
# make check    format, vet, staticcheck
# make bench-convergence   put in etcd to first routed request, beside etcd's own watch

GO     ?= go
LDFLAGS = -s -w

.PHONY: build rootfs test check fmt bench-convergence clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o muster ./cmd/muster

# The image is FROM scratch: COPY takes rootfs/ whole, so that /confd stays a
# link to /muster instead of a second copy of it.
rootfs: build
	mkdir -p rootfs/state
	chmod 1777 rootfs/state
	cp muster rootfs/muster
	ln -sf muster rootfs/confd

test:
	scripts/test

check:
	scripts/test check

fmt:
	$(GO) tool gofumpt -w .

bench-convergence:
	$(GO) test ./bench/convergence -count=1 -v -timeout 20m -args -services 1,1000 -puts 300

clean:
	rm -rf muster rootfs .cache
