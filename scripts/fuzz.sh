#!/usr/bin/env bash
# fuzz.sh DURATION: runs every fuzz target of the module for DURATION each, as many packages at a time as
# there are processors, with one worker each. A package is built once for all of its targets.
set -euo pipefail
cd "$(dirname "$0")/.."

# fuzz DURATION BINARY PACKAGE TARGET, in the package's folder. At the end of its time the runner now and
# then reports "context deadline exceeded" as a failure although no input failed; only such a run is
# repeated, at most twice. Inputs that are new are made shorter in 100 tries at most: left to itself the runner takes
# a minute for each, and tries nothing new meanwhile.
fuzz() {
	local out try cache
	out=$2.$4.out
	cache="$(go env GOCACHE)/fuzz/$3"
	mkdir -p "$cache"
	for try in 1 2 3; do
		if "$2" -test.run '^$' -test.fuzz "^$4\$" -test.fuzztime "$1" -test.fuzzminimizetime 100x -test.parallel 1 -test.fuzzcachedir "$cache" >"$out" 2>&1; then
			printf '== %s %s\n%s\n' "$3" "$4" "$(tail -n 3 "$out")"
			return 0
		fi
		printf '== %s %s\n%s\n' "$3" "$4" "$(cat "$out")"
		if ! grep -qx '    context deadline exceeded' "$out" || grep -qE 'Failing input|panic|DATA RACE|\.go:[0-9]+' "$out"; then
			return 1
		fi
		echo "no input failed: run $try ended with the runner's own deadline, once more"
	done
	return 1
}

# package DURATION FOLDER PACKAGE TARGET...: the targets of a package, one after the other.
package() {
	local duration=$1 folder=$2 pkg=$3 binary target failed=
	shift 3
	binary=$(mktemp -d)
	# shellcheck disable=SC2064 # the name of now
	trap "rm -rf '$binary'" EXIT
	go test -c -fuzz=. -o "$binary/fuzz.test" "$pkg"
	cd "$folder"
	for target; do
		fuzz "$duration" "$binary/fuzz.test" "$pkg" "$target" || failed=1
	done
	[ -z "$failed" ]
}

# targets prints FOLDER PACKAGE TARGET... for each package that has some.
targets() {
	go list -f '{{.ImportPath}} {{join .TestGoFiles ","}},{{join .XTestGoFiles ","}} {{.Dir}}' ./... | while read -r pkg files dir; do
		local all
		all=$(for f in ${files//,/ }; do
			sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir/$f"
		done | sort -u)
		# Without a blank at the end: after one, xargs -L takes the next line to be of this one.
		# shellcheck disable=SC2086 # its words
		[ -z "$all" ] || echo "$dir" "$pkg" $all
	done
}

if [ "${1:-}" = --package ]; then
	shift
	package "$@"
	exit
fi
all=$(targets)
echo "$(($(wc -w <<<"$all") - 2 * $(wc -l <<<"$all"))) fuzz targets"
xargs -P "$(nproc)" -L 1 ./scripts/fuzz.sh --package "${1:-10s}" <<<"$all" || { echo "a fuzz target failed; see above"; exit 1; }
