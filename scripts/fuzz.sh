#!/usr/bin/env bash
# fuzz.sh DURATION: runs every fuzz target of the module for DURATION each.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# fuzz PACKAGE TARGET. At the end of its time the go command now and then reports "context deadline
# exceeded" as a failure although no input failed; only such a run is repeated, at most twice.
fuzz() {
	local try
	for try in 1 2 3; do
		if go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" "$1" >"$out" 2>&1; then
			tail -n 3 "$out"
			return 0
		fi
		cat "$out"
		if ! grep -qx '    context deadline exceeded' "$out" || grep -qE 'Failing input|panic|DATA RACE|\.go:[0-9]+' "$out"; then
			return 1
		fi
		echo "no input failed: run $try ended with the runner's own deadline, once more"
	done
	return 1
}

go list -f '{{.ImportPath}} {{join .TestGoFiles ","}},{{join .XTestGoFiles ","}} {{.Dir}}' ./... | while read -r pkg files dir; do
	for f in ${files//,/ }; do
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir/$f"
	done | sort -u | while read -r target; do
		echo "== $pkg $target"
		fuzz "$pkg" "$target"
	done
done
