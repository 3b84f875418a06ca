#!/usr/bin/env bash
# Formatting, vet, staticcheck, tidiness. The rules that no linter knows are tests in internal/lint.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=$(gofmt -l $(git ls-files -co --exclude-standard '*.go'))
[ -z "$bad" ] || { echo "not formatted by gofmt: $bad"; exit 1; }
go vet ./...
go tool -modfile=tools/go.mod staticcheck ./...
go mod tidy -diff
for os in darwin windows; do # what only Linux can test must be buildable there too
	GOOS=$os CGO_ENABLED=0 go build -o /dev/null ./cmd/poczta
done
