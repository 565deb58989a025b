# make test     install what the tests need and pass them all (Debian, root)
# make build    ./muster, for this machine
# make chaos    break etcd and its connections by chance for 10 minutes (CHAOS_FOR, CHAOS_SEED),
#               and the faults that take too long for make test
# make soak     an hour of valid, hostile and aborted traffic through the proxy (SOAK_FOR)
# make rootfs   the static binary and /confd for the image, see Dockerfile
# make check    format, vet, staticcheck
# make bench    what a request costs in the proxy and in its peers, side by side (docs/bench)
# make bench-convergence   put in etcd to first routed request, beside etcd's own watch

GO     ?= go
LDFLAGS = -s -w

.PHONY: build rootfs test check chaos soak fmt bench bench-convergence clean

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

CHAOS_FOR ?= 10m
chaos:
	CHAOS_FOR=$(CHAOS_FOR) CHAOS_SEED=$(CHAOS_SEED) $(GO) test -race -tags chaos -count=1 -timeout 2h -v \
		-run '^Test(Chaos|AppHangs|MachineDies|QuorumLost|SidekickOfAnotherTime|EtcdWithoutSpace|HerdAfterAnOutage)$$' ./internal/faults

SOAK_FOR ?= 1h
soak:
	$(GO) test -race -count=1 -timeout 0 -v -run '^TestSoak$$' ./internal/soak -args -for $(SOAK_FOR)

fmt:
	$(GO) tool gofumpt -w .

bench:
	$(GO) run ./bench/proxy -o docs/bench

bench-convergence:
	$(GO) test ./bench/scale -run '^$$' -bench . -benchtime 10x
	$(GO) test ./bench/convergence -count=1 -v -timeout 20m -args -services 1,1000 -puts 300 \
		-endpoints 100000 -rate 1000 -churn 20s -flood 10000 -keys 10000 -idle 60s -kills 5

clean:
	rm -rf muster rootfs .cache
