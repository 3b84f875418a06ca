package lab_test

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/ports"
)

// Last numbers of some hosts' addresses.
const (
	resolverHost = "3"
	oursHost     = "10"
	clientHost   = "50"
)

// zones are the lines of the laboratory's zones, in the order of signing. The root
// and test. are signed, plain. is not: MTA-STS is for domains without DNSSEC.
type zones struct {
	test, plain, reverse []string
}

// tlsa is the record of a host's certificate: DANE-EE, its public key, SHA-256
// (RFC 7672 §3.1.1).
func tlsa(host string, cert *x509.Certificate) string {
	return fmt.Sprintf("_25._tcp.%s. TLSA 3 1 1 %x", host, sha256.Sum256(cert.RawSubjectPublicKeyInfo))
}

// machine writes the addresses of a host, and the names of its addresses.
func (z *zones) machine(h *host, names ...string) {
	for _, n := range append([]string{h.name}, names...) {
		z.in(n, n+". A "+h.addr)
		if h.pid != 0 {
			z.in(n, n+". AAAA "+h.addr6())
		}
	}
	if h.pid != 0 {
		z.reverse = append(z.reverse, h.number()+".0.77.10.in-addr.arpa. PTR "+h.name+".")
	}
}

// in adds lines to the zone that name lies in.
func (z *zones) in(name string, lines ...string) {
	if strings.HasSuffix(name, ".plain") {
		z.plain = append(z.plain, lines...)
	} else {
		z.test = append(z.test, lines...)
	}
}

const soa = `$TTL 60
@ SOA ns.%[1]s hostmaster.%[1]s 1 3600 600 86400 1
@ NS ns.%[1]s
ns.%[1]s A %[2]s
`

// serve signs the zones and starts BIND with them, and Unbound with the root's key.
func (z *zones) serve(t *testing.T, authority, resolver *host) {
	t.Helper()
	dir := authority.dir
	sign := func(zone, file string, lines []string) string {
		keep(t, dir, file, fmt.Sprintf(soa, strings.TrimPrefix(zone, "."), authority.addr)+strings.Join(lines, "\n")+"\n")
		ksk := strings.TrimSpace(authority.run("dnssec-keygen", "-K", dir, "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", zone))
		authority.run("dnssec-keygen", "-K", dir, "-q", "-a", "ECDSAP256SHA256", zone)
		authority.run("dnssec-signzone", "-q", "-S", "-K", dir, "-d", dir, "-o", zone, "-f", filepath.Join(dir, file+".signed"), filepath.Join(dir, file))
		return ksk
	}
	sign("test.", "test.zone", z.test)
	keep(t, dir, "plain.zone", fmt.Sprintf(soa, "plain.", authority.addr)+strings.Join(z.plain, "\n")+"\n")
	ds, err := os.ReadFile(filepath.Join(dir, "dsset-test."))
	if err != nil {
		t.Fatal(err)
	}
	root := append([]string{"test. NS ns.test.", "ns.test. A " + authority.addr, "plain. NS ns.plain.", "ns.plain. A " + authority.addr, string(ds)}, z.reverse...)
	rootKey := sign(".", "root.zone", root)

	var conf strings.Builder
	addr, port := authority.addr, 53
	if authority.pid == 0 { // BIND takes only addresses of interfaces
		addr, port = "127.0.0.1", ports.Free(t)
	}
	fmt.Fprintf(&conf, "options { directory %q; pid-file none; session-keyfile none; listen-on port %d { %s; }; listen-on-v6 { none; }; recursion no; empty-zones-enable no; };\ncontrols {};\n",
		dir, port, addr)
	for zone, file := range map[string]string{".": "root.zone.signed", "test.": "test.zone.signed", "plain.": "plain.zone"} {
		fmt.Fprintf(&conf, "zone %q { type primary; file %q; };\n", zone, filepath.Join(dir, file))
	}
	named := authority.start("named", nil, "named", "-g", "-n", "1", "-c", keep(t, dir, "named.conf", conf.String()))
	named.listens(addr, port)

	hints := "root-hints: " + keep(t, resolver.dir, "root.hints", ". 3600 NS ns.\nns. 3600 A "+authority.addr+"\n")
	anchor, err := os.ReadFile(filepath.Join(dir, rootKey+".key"))
	if err != nil {
		t.Fatal(err)
	}
	var stubs strings.Builder
	for _, zone := range []string{".", "test.", "plain."} {
		if authority.pid == 0 {
			hints = ""
			fmt.Fprintf(&stubs, "stub-zone:\n  name: %q\n  stub-addr: %s@%d\n", zone, addr, port)
		}
	}
	unbound := resolver.start("unbound", nil, "unbound", "-d", "-c", keep(t, resolver.dir, "unbound.conf", fmt.Sprintf(unboundConf,
		resolver.dir, resolver.addr, hints, keep(t, resolver.dir, "root.key", string(anchor)), resolver.w.net4Mask)+stubs.String()))
	unbound.listens(resolver.addr, 53)
}

const unboundConf = `server:
  directory: "%[1]s"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  interface: %[2]s
  access-control: %[5]s allow
  do-not-query-localhost: no
  do-ip6: no
  %[3]s
  trust-anchor-file: "%[4]s"
  harden-dnssec-stripped: yes
  unblock-lan-zones: yes
  local-zone: "test." nodefault
  cache-max-negative-ttl: 1
remote-control:
  control-enable: no
`
