# A thin index: every target is one plain command that also works by hand.
GO ?= go
export CGO_ENABLED ?= 0

help: ## print the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

build: ## the binary, as bin/poczta
	$(GO) build -trimpath -o bin/poczta ./cmd/poczta

demo: build ## a throwaway server on loopback with accounts and sample mail
	bin/poczta demo

test: ## everything: installs what the tests need where it may, says what it skips where it may not
	./scripts/test.sh

quick: ## the tests that need nothing but Go
	$(GO) test ./...

race: ## the quick tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race ./...

fuzz: ## every fuzz target for FUZZTIME (default 1m) each
	./scripts/fuzz.sh $(or $(FUZZTIME),1m)

lint: ## vet, gofmt, staticcheck, module tidiness
	./scripts/lint.sh

bench: ## the table of docs/benchmarks.md, measured here against Postfix and Dovecot
	$(GO) run ./bench

docs: ## docs/configuration.md from the code
	$(GO) run ./cmd/poczta config-doc > docs/configuration.md

deb: ## dist/poczta_VERSION_ARCH.deb
	./packaging/deb.sh

.PHONY: help build demo test quick race fuzz lint bench docs deb
