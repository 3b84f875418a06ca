#!/usr/bin/env bash
# Every test under the race detector. A test that fails is run three times more, alone: when it passes each
# time it is named as unsteady at the end and does not fail the run, since two thousand tests with dozens of
# foreign servers on a busy machine meet what says nothing of the change. Not forgiven: a data race, a panic,
# a package that does not build or end, more than three such tests.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# SQLite is C in the words of Go. Its memory is not of Go's heap, so that the detector sees nothing of it, but
# asking at each access made four fifths of the work of tests that use it. Not so the C library below it (modernc.org/libc): it shares generic code of the
# standard library with us, and the linker would take its copy, which says nothing of atomic operations.
quick=(-gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/memory=-race=false -gcflags=modernc.org/libc=-d=checkptr=0)

# race WHAT...: go test under the detector.
race() { go test -race "${quick[@]}" -shuffle=on -timeout 20m "$@"; }

# Packages with tests in bubbles of testing/synctest have one processor: with more, the detector itself falls
# now and then, since timers that fire at once count as one thread of it (golang.org/issue/78156, Go 1.26).
# What happens before what, it sees with one as well.
listed=$(go list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}} ' ./...)
mapfile -t bubbles < <(awk '/ testing\/synctest / { print $1 }' <<<"$listed")
mapfile -t others < <(awk '!/ testing\/synctest / { print $1 }' <<<"$listed")
failed=
race -p 2 -cpu 1 "${bubbles[@]}" 2>&1 | tee "$work/out" || failed=1
race -p 2 "${others[@]}" 2>&1 | tee -a "$work/out" || failed=1
[ -n "$failed" ] || exit 0

# The packages that failed, each with the tests of it that did: go prints a package's tests before its end.
awk '
	/^--- FAIL: /	{ tests = tests " " $3 }
	/^FAIL\t/	{ print $2 tests; tests = "" }
	/^ok  \t/	{ tests = "" }
' "$work/out" >"$work/failed"
echo "== failed: $(tr '\n' ';' <"$work/failed")"
if grep -qE '^[[:space:]]*(WARNING: DATA RACE|panic: |fatal error: )|\[(build|setup) failed\]' "$work/out"; then
	echo "a data race, a panic or a package that does not build is no matter of chance"
	exit 1
fi
if awk 'NF < 2 { none = 1 } { n += NF - 1 } END { exit !(none || n > 3 || n == 0) }' "$work/failed"; then
	echo "more than three tests failed, or a package without one that did: not run again"
	exit 1
fi
while read -r pkg tests; do
	for t in $tests; do
		echo "== once more, alone: $pkg $t"
		cpus=()
		[[ " ${bubbles[*]} " != *" $pkg "* ]] || cpus=(-cpu 1)
		race "${cpus[@]}" -count 3 -run "^$t\$" "$pkg" || { echo "$t fails alone, too"; exit 1; }
	done
done <"$work/failed"
echo "== UNSTEADY, to be mended: $(tr '\n' ';' <"$work/failed")"
