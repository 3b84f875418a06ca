package lab_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"poczta.example/poczta/internal/mailtest/certtest"
)

// world is the whole laboratory.
type world struct {
	net     *wire
	ca      *certtest.CA
	ours    *poczta // mx.ours.test, the server under test
	branch  *poczta // mx.branch.test, a second one of ours: customer of the first, backup MX
	home    *poczta // mx.home.test, a third one, whose provider blocks port 25
	postfix *host
	exim    *host
	web     *host // policies of MTA-STS
	client  *host // programs of people; Postfix and Exim relay for it

	eximCert tls.Certificate
	eximProc *process
}

// Relays with a schedule that a test can wait for.
const (
	ourRelay = `
[relay]
retry = ["10s"]
probe = ["10s"]
delay_warning = "6s"
lifetime = "10m"

[mta_sts]
mode = "enforce"
`
	branchRelay = `
[relay]
retry = ["10s"]
probe = ["10s"]

[[relay.route]]
name = "head office"
domains = ["postfix.test"]
host = "mx.ours.test:587"
tls = "verify"
user = "branch@ours.test"
password_file = %[1]q

[[relay.route]]
name = "another way"
host = "mx.ours.test:587"
tls = "verify"
user = "branch@ours.test"
password_file = %[1]q
fallback = true

[[relay.domain]]
domain = "backed.test"
recipients = "call"
etrn_from = ["10.77.0.50"]
`
	homeRelay = `
[relay]
retry = ["10s"]
probe = ["10s"]

[[relay.route]]
name = "provider"
host = "mx.ours.test:587"
tls = "verify"
user = "home@ours.test"
password_file = %[1]q
fallback = true
`
)

// TestLaboratory builds the laboratory and lets mail go through it in every way.
func TestLaboratory(t *testing.T) {
	programs(t)
	dir, err := os.MkdirTemp("", "pl") // short: names of UNIX sockets are limited
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("POCZTA_LAB_KEEP") != "" {
			t.Logf("kept: %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	net, err := newWire(t, dir)
	if err != nil {
		t.Skipf("skipped, network namespaces are not allowed here (TestLoopback exchanges mail without them): %v", err)
	}
	w := build(t, net)
	w.hold(t)
	// The provider's block is noticed after two minutes, so it begins first and is
	// looked at last.
	noticed := w.blockedPort(t)
	// What is below runs at the same time; what takes hosts away comes after.
	t.Run("together", func(t *testing.T) {
		t.Run("exchange", w.exchange)
		t.Run("dane", w.dane)
		t.Run("mta-sts", w.mtaSTS)
		t.Run("reports", w.reports)
		t.Run("smart host", w.smartHost)
		t.Run("forward", w.forward)
		t.Run("relay domain", w.relayDomain)
		t.Run("outbox", w.outbox)
	})
	t.Run("peer down and up", w.peerDown)
	t.Run("process stopped", w.processStopped)
	t.Run("killed while mail is queued", w.killed)
	t.Run("backup MX", w.backup)
	t.Run("port 25 blocked", noticed)
}

// hold keeps the laboratory for a person to look at, until the file named by
// POCZTA_LAB_HOLD is removed.
func (w *world) hold(t *testing.T) {
	t.Helper()
	name := os.Getenv("POCZTA_LAB_HOLD")
	if name == "" {
		return
	}
	keep(t, filepath.Dir(name), filepath.Base(name), "Remove this file to let the laboratory go on.\n")
	fmt.Printf("the laboratory in %s stands until %s is removed\n", w.net.dir, name)
	await(t, name+" is removed", longest, func() bool { _, err := os.Stat(name); return err != nil })
}

// Domains with an MTA-STS policy, all at Postfix.
var stsDomains = []string{"good.plain", "badcert.plain", "badmx.plain", "trial.plain"}

// build starts every host with its servers.
func build(t *testing.T, net *wire) *world {
	t.Helper()
	w := &world{net: net, ca: certtest.New(t)}
	authority, resolver := net.host("ns.test", 2), net.host("resolver.test", 3)
	ours, branch, home := net.host("mx.ours.test", 10), net.host("mx.branch.test", 11), net.host("mx.home.test", 12)
	w.postfix, w.exim, w.web, w.client = net.host("mx.postfix.test", 20), net.host("mx.exim.test", 30), net.host("web.plain", 40), net.host("client.test", 50)
	certs := map[*host]tls.Certificate{
		ours: w.ca.Leaf("mx.ours.test", "mta-sts.ours.test"), branch: w.ca.Leaf("mx.branch.test"), home: w.ca.Leaf("mx.home.test"),
		w.postfix: w.ca.Leaf("mx.postfix.test", "mx.good.plain"), w.exim: w.ca.Leaf("mx.exim.test"),
	}
	w.install(t, ours, branch, home, certs)
	w.zones(t, certs).serve(t, authority, resolver)
	keep(t, w.postfix.dir, "ca.pem", certPEM(tls.Certificate{Certificate: [][]byte{w.ca.Cert.Raw}}))
	domains := append([]string{"postfix.test", "wrong.test"}, stsDomains...)
	startPostfix(t, w.postfix, certs[w.postfix], domains, boxesOf("kasia", domains))
	w.eximCert = certs[w.exim]
	w.startExim(t)
	for _, s := range []*poczta{w.ours, w.branch, w.home} {
		s.serve()
	}
	return w
}

func (w *world) startExim(t *testing.T) {
	t.Helper()
	w.eximProc = startExim(t, w.exim, w.eximCert, []string{"exim.test", "backed.test"}, []string{"emil", "picky", "postmaster"})
}

// install sets up our three servers, with their people.
func (w *world) install(t *testing.T, ours, branch, home *host, certs map[*host]tls.Certificate) {
	t.Helper()
	w.ours = setup(t, ours, w.ca.Cert, certs[ours], "ours.test", "ala@ours.test", ourRelay)
	w.branch = setup(t, branch, w.ca.Cert, certs[branch], "branch.test", "bea@branch.test", fmt.Sprintf(branchRelay, keep(t, branch.dir, "password", password+"\n")))
	w.home = setup(t, home, w.ca.Cert, certs[home], "home.test", "hugo@home.test", fmt.Sprintf(homeRelay, keep(t, home.dir, "password", password+"\n")))
	for _, c := range []string{"branch", "home"} {
		w.ours.poczta(password+"\n", "account", "add", c+"@ours.test")
		w.ours.poczta("", "account", "send-as", "add", c+"@ours.test", "@"+c+".test")
	}
	w.ours.poczta(password+"\n", "account", "add", "ewa@ours.test")
	w.ours.poczta("", "alias", "add", "emils@ours.test", "emil@exim.test")
}

// zones are the laboratory's names. Our servers' lines are what "domain dns" prints.
func (w *world) zones(t *testing.T, certs map[*host]tls.Certificate) *zones {
	t.Helper()
	var z zones
	for _, h := range []*host{w.ours.host, w.branch.host, w.home.host, w.postfix, w.exim, w.client} {
		z.machine(h)
	}
	for h, c := range certs {
		z.in("test", tlsa(h.name, c.Leaf))
	}
	z.in("test", w.ours.lines("ours.test")...)
	z.in("test", w.branch.lines("branch.test")...)
	z.in("test", w.home.lines("home.test")...)
	z.in("test", "postfix.test. MX 10 mx.postfix.test.", "postfix.test. TXT \"v=spf1 mx -all\"", "exim.test. MX 10 mx.exim.test.", "exim.test. TXT \"v=spf1 mx -all\"")
	z.in("test", "backed.test. MX 10 mx.exim.test.", "backed.test. MX 20 mx.branch.test.")
	// Postfix under a name whose TLSA record is of another key.
	z.in("test", "wrong.test. MX 10 mx.wrong.test.", "mx.wrong.test. A "+w.postfix.addr, tlsa("mx.wrong.test", certs[w.exim].Leaf))
	// Where nobody is: the address of no host, and networks that nothing leads to.
	z.in("silent.plain", "silent.plain. MX 10 mx.silent.plain.", "mx.silent.plain. A "+w.net.net4+"99", "null.plain. MX 0 .")
	for _, n := range []string{"91", "92"} {
		z.in("far.plain", "far"+n+".plain. MX 10 mx.far"+n+".plain.", "mx.far"+n+".plain. A 10."+n+".0.1")
	}
	for _, d := range stsDomains {
		mx := "mx." + d
		if d == "badmx.plain" {
			mx = "mx.other.plain"
		}
		z.in(d, d+". MX 10 "+mx+".", mx+". A "+w.postfix.addr, "mta-sts."+d+". A "+w.web.addr, "_mta-sts."+d+". TXT \"v=STSv1; id=1\"",
			"_smtp._tls."+d+". TXT \"v=TLSRPTv1; rua=mailto:tls@postfix.test\"")
	}
	return &z
}

func boxesOf(local string, domains []string) []string {
	var out []string
	for _, d := range domains {
		out = append(out, local+"@"+d)
	}
	return out
}
