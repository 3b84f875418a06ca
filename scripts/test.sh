#!/usr/bin/env bash
# Runs every test there is. As root on Debian it first installs the real servers and clients that the tests
# use; elsewhere it says what is missing and those tests say that they are skipped. With CI set, or
# POCZTA_REQUIRE_SERVICES=1, a missing service is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

packages="postgresql postfix dovecot-core dovecot-pop3d dovecot-lmtpd swaks libnet-ssleay-perl msmtp mpop fetchmail getmail6 curl python3 gcc libc6-dev procps openssl dpkg-dev systemd
  haproxy prometheus bind9 bind9-utils unbound iproute2 util-linux opendkim opendkim-tools opendmarc clamav-daemon rspamd dmarc-cat libxml2-utils xz-utils bzip2 libgnutls-dane0 libdb5.3 libidn12 libnsl2 libpcre2-8-0 chromium
  git-email bsd-mailx zsh fish gnome-keyring dbus-daemon dbus-bin bind9-dnsutils libjansson4 libwrap0"
commands="/usr/lib/postgresql/*/bin/postgres /usr/sbin/postfix /usr/sbin/dovecot /usr/lib/dovecot/pop3 /usr/lib/dovecot/lmtp /usr/bin/swaks /usr/lib/*-linux-gnu/perl5/*/Net/SSLeay.pm
  /usr/bin/msmtp /usr/bin/mpop /usr/bin/fetchmail /usr/bin/getmail /usr/bin/curl /usr/bin/gcc /usr/bin/openssl /usr/bin/dpkg-deb /usr/bin/systemd-analyze
  /usr/sbin/haproxy /usr/bin/promtool /usr/sbin/named /usr/bin/dnssec-signzone /usr/sbin/unbound /usr/sbin/ip /usr/sbin/opendkim-testmsg /usr/sbin/opendkim /usr/sbin/opendmarc /usr/sbin/clamd
  /usr/bin/rspamd /usr/bin/dmarc-cat /usr/bin/xmllint /usr/bin/xz /usr/bin/bzip2 /usr/bin/setsid /usr/lib/*-linux-gnu/libgnutls-dane.so.0 /usr/bin/chromium
  /usr/lib/git-core/git-send-email /usr/bin/bsd-mailx /usr/bin/zsh /usr/bin/fish /usr/bin/gnome-keyring-daemon /usr/bin/dbus-run-session /usr/bin/dbus-send /usr/bin/dig"

missing() {
	local c
	for c in $commands; do
		# shellcheck disable=SC2086 # the patterns are meant to expand
		compgen -G "$c" >/dev/null || echo "$c"
	done
}

if [ -n "${CI:-}" ]; then export POCZTA_REQUIRE_SERVICES=1; fi
export POCZTA_TESTDATA="${POCZTA_TESTDATA:-$PWD/../shared/testdata}"
[ -d "$POCZTA_TESTDATA" ] || echo "note: no foreign test data at $POCZTA_TESTDATA; tests that use it are skipped"

if [ -n "$(missing)" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "installing the servers and clients that the tests use (Debian packages)"
		export DEBIAN_FRONTEND=noninteractive
		log=$(mktemp)
		# A policy that starts no service: the tests start their own, on ports of their own.
		policy=/usr/sbin/policy-rc.d
		made_policy=
		[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; made_policy=1; }
		# shellcheck disable=SC2086
		{ apt-get update && apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1 || { tail -20 "$log"; exit 1; }
		[ -z "$made_policy" ] || rm -f $policy
	fi
	if [ -n "$(missing)" ]; then
		echo "not installed, tests that need them are skipped: $(missing | tr '\n' ' ')"
		[ -z "${POCZTA_REQUIRE_SERVICES:-}" ] || { echo "CI needs them all: install the Debian packages $packages"; exit 1; }
	fi
fi

# Exim for the laboratory: Debian allows one MTA only, and Postfix is that one, so it is unpacked and not installed.
export POCZTA_EXIM="${POCZTA_EXIM:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/poczta-exim}"
if [ ! -x "$POCZTA_EXIM/usr/sbin/exim4" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	mkdir -p "$POCZTA_EXIM"
	(cd "$POCZTA_EXIM" && { apt-get download exim4-daemon-light || { apt-get update && apt-get download exim4-daemon-light; }; } &&
		dpkg -x exim4-daemon-light_*.deb . && rm -f exim4-daemon-light_*.deb) >/dev/null 2>&1 ||
		echo "Exim could not be unpacked in $POCZTA_EXIM: the laboratory needs it"
fi

# Courier's POP3 server for the POP3 client: its packages want daemons of their own, so it is unpacked and not installed.
export POCZTA_COURIER="${POCZTA_COURIER:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/poczta-courier}"
if [ ! -x "$POCZTA_COURIER/usr/lib/courier/courier/courierpop3d" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	mkdir -p "$POCZTA_COURIER"
	courier="courier-pop courier-authlib libcourier-unicode4"
	# shellcheck disable=SC2086 # several packages
	(cd "$POCZTA_COURIER" && { apt-get download $courier || { apt-get update && apt-get download $courier; }; } &&
		for deb in courier-pop_*.deb courier-authlib_*.deb libcourier-unicode4_*.deb; do dpkg -x "$deb" . || exit 1; done && rm -f ./*.deb) >/dev/null 2>&1 ||
		echo "Courier could not be unpacked in $POCZTA_COURIER: tests of the POP3 client need it"
fi

# Cyrus' POP3 server for the mail program: it wants Dovecot's place, so it is unpacked and not installed.
export POCZTA_CYRUS="${POCZTA_CYRUS:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/poczta-cyrus}"
if [ ! -x "$POCZTA_CYRUS/usr/lib/cyrus/bin/pop3d" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	mkdir -p "$POCZTA_CYRUS"
	cyrus="cyrus-common cyrus-pop3d libical3 libpcre3 libxapian30 libzephyr4"
	# shellcheck disable=SC2086 # several packages
	(cd "$POCZTA_CYRUS" && { apt-get download $cyrus || { apt-get update && apt-get download $cyrus; }; } &&
		for deb in cyrus-common_*.deb cyrus-pop3d_*.deb libical3_*.deb libpcre3_*.deb libxapian30_*.deb libzephyr4_*.deb; do dpkg -x "$deb" . || exit 1; done && rm -f ./*.deb) >/dev/null 2>&1 ||
		echo "Cyrus could not be unpacked in $POCZTA_CYRUS: tests of the mail program need it"
fi

# axe-core looks at the pages of the mail program in Chromium; an npm package, used by that test alone.
export POCZTA_AXE="${POCZTA_AXE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/poczta-axe-4.14.1}"
if [ ! -f "$POCZTA_AXE/package/axe.min.js" ] && command -v npm >/dev/null; then
	mkdir -p "$POCZTA_AXE"
	(cd "$POCZTA_AXE" && npm pack axe-core@4.14.1 &&
		echo "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745  axe-core-4.14.1.tgz" | sha256sum -c && tar xzf axe-core-4.14.1.tgz) >/dev/null 2>&1 ||
		echo "axe-core could not be fetched by npm into $POCZTA_AXE: the check of accessibility needs it"
fi

# VersityGW, an S3 server, for the backups: a Go program of other people's, used by tests alone.
export POCZTA_VERSITYGW="${POCZTA_VERSITYGW:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/poczta-versitygw-1.8.0}"
if [ ! -x "$POCZTA_VERSITYGW/versitygw" ]; then
	GOBIN="$POCZTA_VERSITYGW" CGO_ENABLED=0 GOFLAGS= go install github.com/versity/versitygw/cmd/versitygw@v1.8.0 >/dev/null 2>&1 ||
		echo "VersityGW could not be installed in $POCZTA_VERSITYGW: tests of backups in a real S3 server need it"
fi

./scripts/lint.sh

echo "== all tests under the race detector"
./scripts/race.sh

echo "== every fuzz target for ${FUZZTIME:-3s}"
./scripts/fuzz.sh "${FUZZTIME:-3s}"
