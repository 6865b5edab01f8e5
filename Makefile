# make, make build   the page and bin/chatr with the page embedded
# make run           build, then chatr standalone
# make test          every test, installing what it needs
# make lint test     what CI runs; what both would do is done once
# make test-busy     the same tests on a machine whose cores are all busy, ROUNDS (3) times, and then those of packages
#                    that deal in time (PACKAGES) COUNT (50) times; a check before something is called done, takes hours
# make up, make down   docker compose with keys made in .env, or a new image on what runs, one gateway at a time; stop it (data stays)
# make test-stories  the story of two people in a browser four times: by one process and by separate services, on a desktop and a phone
# make test-compose  two people in a browser on docker-compose.yml; needs a Docker engine; with IMAGE=binary no registry
# make test-cluster  the same on the chart; needs a Kubernetes cluster, kubectl and Helm (see scripts/test-cluster)
# make test-rollout  helm upgrade from an older version and back, under load (see scripts/test-rollout)
# make bench         Go benchmarks with allocations
# make bench-peers   the product beside others, as ratios (PEERS, SCENARIOS, ROUNDS; see docs/performance.md)
# make histories     random histories of a chat whose processes die and whose calls fail: HISTORIES (10000) of them from SEED (1)
# make histories-processes  the same on real processes, Redis and Postgres that are killed and hang: HISTORIES (100), SEED (1)
# make fault         incidents under load on real processes, as a table of what was lost; FAULTS (all) names them, PARALLEL (3) happen at a time
# make fuzz          every decoder for FUZZTIME each (1m), JOBS (2) at a time
# make lint          vet, staticcheck, gofmt, ESLint and vue-tsc
# make docs          rewrite the generated documents
# make compatibility   rewrite docs/compatibility.md from the last run of make test
# make release VERSION=1.2.3   binaries, image, chart, SBOM and tag in dist/1.2.3 (see scripts/release); nothing is sent anywhere

VERSION ?= $(patsubst v%,%,$(shell git describe --tags --always --dirty 2>/dev/null || echo dev))
GO_BUILD := CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ARGS ?=

.PHONY: all build run up down test test-busy test-stories test-compose test-cluster test-rollout bench bench-peers fault fuzz histories histories-processes lint docs compatibility release setup clean
all: build

build: bin/chatr

bin/chatr: web/dist/index.html FORCE
	$(GO_BUILD) -o $@ ./cmd/chatr

# The page is built again when anything it is made of is newer.
web/dist/index.html: web/node_modules/.package-lock.json $(shell find web -type f -not -path '*/node_modules/*' -not -path 'web/dist/*')
	cd web && npm run build
	touch $@

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	touch $@

run: build
	bin/chatr standalone $(ARGS)

up: .env
	VERSION=$(VERSION) scripts/compose-up
	@echo "Chatr is at http://localhost:8080"

down:
	docker compose down

.env:
	@umask 077; for name in CHATR_ACCESS_KEY CHATR_AUTH_SESSION_KEY POSTGRES_PASSWORD; do \
	  echo "$$name=$$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')"; done > $@

setup:
	scripts/setup

test: setup
	LINTED=$(filter lint,$(MAKECMDGOALS)) scripts/test

test-busy:
	scripts/test-busy

test-stories: build
	scripts/setup
	STORIES=all CHATR_BIN=$(CURDIR)/bin/chatr go test -count=1 -v -timeout 45m ./tests/browser

test-compose:
	scripts/test-compose

test-cluster:
	scripts/test-cluster

test-rollout:
	scripts/test-rollout

bench:
	go test -run '^$$' -bench . -benchmem ./pkg/... ./services/...

fuzz:
	scripts/fuzz

SEED ?= 1
histories: HISTORIES ?= 10000
histories-processes: HISTORIES ?= 100

histories:
	HISTORIES=$(HISTORIES) SEED=$(SEED) go test -count=1 -timeout 6h -v -run '^TestHistories$$' ./tests/histories

histories-processes:
	HISTORIES=$(HISTORIES) SEED=$(SEED) go test -count=1 -timeout 6h -v -run '^TestHistoriesOnProcesses$$' ./tests/histories

FAULTS ?= all
PARALLEL ?= 3

fault:
	FAULTS="$(FAULTS)" go test -count=1 -v -timeout 30m -parallel $(PARALLEL) -run '^TestFaults$$' ./tests/fault

NATS := github.com/nats-io/nats-server/v2@v2.15.2
PEERS ?=
SCENARIOS ?= S1 S2 S3 S4
ROUNDS ?= 3
REFERENCE ?=

bench-peers: bin/chatr
	go build -o bin/peers/ ./tests/peers ./tests/peers/floor
	GOBIN=$(CURDIR)/bin/peers go install $(NATS)
	cd tests/peers && npm ci --no-audit --no-fund
	bin/peers/peers -servers "$(PEERS)" -scenarios "$(SCENARIOS)" -rounds $(ROUNDS) -reference "$(REFERENCE)"

# gofmt: one form. vet and staticcheck: mistakes the compiler lets through, dead code, deprecated calls. ESLint and
# vue-tsc: the same for the page, its templates included.
lint: web/node_modules/.package-lock.json
	test -z "$$(gofmt -l . | tee /dev/stderr)"
	go vet ./...
	go run $(STATICCHECK) ./...
	cd web && npm run lint

docs:
	go test ./cmd/chatr -run Docs -update
	cd tests/chart && go test -update .

compatibility:
	go run ./tests/compatibility -update

release:
	scripts/release $(VERSION)

clean:
	rm -rf bin dist web/node_modules test-results
	find web/dist -mindepth 1 -not -name .gitkeep -delete

FORCE:
