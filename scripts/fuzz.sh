#!/usr/bin/env bash
# fuzz.sh DURATION: runs every fuzz target of the module for DURATION each.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
go list -f '{{.ImportPath}} {{join .TestGoFiles ","}},{{join .XTestGoFiles ","}} {{.Dir}}' ./... | while read -r pkg files dir; do
	for f in ${files//,/ }; do
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir/$f"
	done | sort -u | while read -r target; do
		echo "== $pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
	done
done
