#!/usr/bin/env bash
# fuzz.sh DURATION: runs every fuzz target of the module for DURATION each, as many at a time as there
# are processors, with one worker each.
set -euo pipefail
cd "$(dirname "$0")/.."

# fuzz DURATION PACKAGE TARGET. At the end of its time the go command now and then reports "context
# deadline exceeded" as a failure although no input failed; only such a run is repeated, at most twice.
fuzz() {
	local out try
	out=$(mktemp)
	# shellcheck disable=SC2064 # the name of now
	trap "rm -f '$out'" RETURN
	for try in 1 2 3; do
		if go test -run '^$' -fuzz "^$3\$" -fuzztime "$1" -parallel 1 "$2" >"$out" 2>&1; then
			printf '== %s %s\n%s\n' "$2" "$3" "$(tail -n 3 "$out")"
			return 0
		fi
		printf '== %s %s\n%s\n' "$2" "$3" "$(cat "$out")"
		if ! grep -qx '    context deadline exceeded' "$out" || grep -qE 'Failing input|panic|DATA RACE|\.go:[0-9]+' "$out"; then
			return 1
		fi
		echo "no input failed: run $try ended with the runner's own deadline, once more"
	done
	return 1
}

# targets prints PACKAGE TARGET for each.
targets() {
	go list -f '{{.ImportPath}} {{join .TestGoFiles ","}},{{join .XTestGoFiles ","}} {{.Dir}}' ./... | while read -r pkg files dir; do
		for f in ${files//,/ }; do
			sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir/$f"
		done | sort -u | while read -r target; do
			echo "$pkg $target"
		done
	done
}

if [ "${1:-}" = --one ]; then
	fuzz "$2" "$3" "$4"
	exit
fi
all=$(targets)
echo "$(wc -l <<<"$all") fuzz targets"
xargs -P "$(nproc)" -L 1 ./scripts/fuzz.sh --one "${1:-10s}" <<<"$all" || { echo "a fuzz target failed; see above"; exit 1; }
