package config_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/config"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md")

const least = "hostname = \"mail.example.org\"\n"

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("poczta.toml", []byte(least))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.SMTP.MaxSize, config.Size(50<<20); got != want {
		t.Errorf("smtp.max_size: got %v, want %v", got, want)
	}
	if got, want := c.Store.Retention.Duration(), 14*24*time.Hour; got != want {
		t.Errorf("store.retention: got %v, want %v", got, want)
	}
	if diff := cmp.Diff([]string{"25"}, c.Listen.SMTP); diff != "" {
		t.Error(diff)
	}
	if !c.BodiesInSegments() || c.TLS.Mode != "self-signed" {
		t.Errorf("got bodies %q, tls mode %q", c.Store.Bodies, c.TLS.Mode)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("f", []byte(`hostname = "poczta.przykład.pl"
data = "/srv/mail"
[listen]
hosts = ["127.0.0.1", "::1"]
port_base = 10000
smtp = [25, "[::1]:2525", "unix:smtp.sock"]
pop3 = []
[auth]
plaintext_from = ["127.0.0.1", "2001:db8::/32"]
[[submission.host]]
from = ["192.0.2.1"]
addresses = ["a@example.org"]
`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Endpoints("listen.smtp", c.Listen.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Endpoint{
		{Network: "tcp", Address: "127.0.0.1:10025", Key: "listen.smtp"},
		{Network: "tcp", Address: "[::1]:10025", Key: "listen.smtp"},
		{Network: "tcp", Address: "[::1]:12525", Key: "listen.smtp"},
		{Network: "unix", Address: "/srv/mail/smtp.sock", Key: "listen.smtp"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(c.Listen.POP3) != 0 {
		t.Errorf("listen.pop3: got %v, want none", c.Listen.POP3)
	}
	nets := config.Prefixes(c.Auth.PlaintextFrom)
	if len(nets) != 2 || nets[0] != netip.MustParsePrefix("127.0.0.1/32") {
		t.Errorf("auth.plaintext_from: got %v", nets)
	}
	if c.Submission.Hosts[0].HourlyLimit != 100 {
		t.Errorf("default inside a list of tables: got %d, want 100", c.Submission.Hosts[0].HourlyLimit)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, doc, want string }{
		{"empty", "", `f: hostname: is missing; write as in hostname = "mail.example.org"`},
		{"syntax", least + "[smtp\n", "f:2: "},
		{"unknown key with a near one", least + "[smtp]\nmax_sise = \"1MiB\"\n", "f:3: smtp.max_sise: is not a known key; did you mean smtp.max_size?"},
		{"unknown section", least + "[smpt]\n", "f:2: smpt: is not a known key; did you mean smtp?"},
		{"key of another section", least + "[smtp]\nretention = \"1d\"\n", "f:3: smtp.retention: is not a known key; there is store.retention"},
		{"wrong type", least + "[smtp]\nmax_recipients = \"many\"\n", "f:3: smtp.max_recipients: is text; write a whole number"},
		{"number for text", "hostname = 5\n", "f:1: hostname: is a number; write text"},
		{"boolean", least + "[pop3]\nexclusive = 1\n", "f:3: pop3.exclusive: is a number; write true or false"},
		{"scalar for list", least + "[listen]\nsmtp = 25\n", `f:3: listen.smtp: is a number; write a list, as in ["25"]`},
		{"scalar for section", least + "smtp = 25\n", "f:2: smtp: is a number, but this is a section; write [smtp]"},
		{"size", least + "[smtp]\nmax_size = \"10MB\"\n", `f:3: smtp.max_size: "10MB" is not a size`},
		{"size too small", least + "[smtp]\nmax_size = \"10KiB\"\n", "f:3: smtp.max_size: 10KiB is too small; the least is 64KiB"},
		{"size beyond 64 bits", least + "[store]\nreserve = \"99999999999TiB\"\n", "f:3: store.reserve: \"99999999999TiB\" is too large a size"},
		{"duration", least + "[store]\nretention = \"two weeks\"\n", "f:3: store.retention: \"two weeks\" is not a duration"},
		{"negative duration", least + "[store]\nretention = \"-1h\"\n", "f:3: store.retention: \"-1h\" is not a duration"},
		{"choice", least + "[tls]\nmode = \"self-singed\"\n", `f:3: tls.mode: "self-singed" is not one of acme, self-signed, files; did you mean "self-signed"?`},
		{"network", least + "[proxy]\nfrom = [\"10.0.0.1/8\"]\n", `f:3: proxy.from[0]: "10.0.0.1/8" has bits set behind its length; write 10.0.0.0/8`},
		{"hostname without domain", "hostname = \"mail\"\n", `f:1: hostname: "mail" has no domain`},
		{"relative data", least + "data = \"mail\"\n", `f:2: data: "mail" is not an absolute path`},
		{"port", least + "[listen]\npop3 = [\"99999\"]\n", `f:3: listen.pop3: "99999" is not a port between 1 and 65535`},
		{"port with base", least + "[listen]\nport_base = 60000\npop3 = [\"9000\"]\n", "f:4: listen.pop3: port 9000 plus port_base 60000 is beyond 65535"},
		{"same port twice", least + "[listen]\npop3 = [25]\n", "is taken by listen.pop3 already"},
		{"public metrics", least + "[metrics]\nlisten = [\"9025\"]\n", `f:3: metrics.listen: "9025" would be open to everyone`},
		{"files without pair", least + "[tls]\nmode = \"files\"\n", `f:3: tls.mode: is "files", but no pair is named`},
		{"pair without key", least + "[tls]\nmode = \"files\"\n[[tls.certificate]]\ncert = \"a\"\n", `f:4: tls.certificate[0].key: is missing`},
		{"second pair", least + "[tls]\nmode = \"files\"\n[[tls.certificate]]\ncert = \"a\"\nkey = \"b\"\n[[tls.certificate]]\ncert = \"a\"\nkee = \"b\"\n", `f:9: tls.certificate[1].kee: is not a known key; did you mean tls.certificate[1].key?`},
		{"inline table", least + "tls = { mode = \"acme\", modus = 1 }\n", `f:2: tls.modus: is not a known key; did you mean tls.mode?`},
		{"postgresql without url", least + "[store]\nengine = \"postgresql\"\n", "store.url: is missing"},
		{"url with sqlite", least + "[store]\nurl = \"postgres://x/y\"\n", "f:3: store.url: is used only when"},
		{"name server by name", least + "[dns]\nservers = [\"ns.example.org\"]\n", `f:3: dns.servers: "ns.example.org" is not an IP address`},
		{"mechanism", least + "[auth]\nmechanisms = [\"CRAM-MD5\"]\n", `f:3: auth.mechanisms: "CRAM-MD5" is not a mechanism`},
		{"device's address", least + "[[submission.host]]\nfrom = [\"::1\"]\naddresses = [\"x\"]\n", `f:4: submission.host[0].addresses: "x" is not an address`},
		{"relay for everybody", least + "[[submission.host]]\nfrom = [\"0.0.0.0/0\"]\naddresses = [\"@example.org\"]\n", "f:3: submission.host[0].from: 0.0.0.0/0 is every address there is"},
		{"XCLIENT for everybody", least + "[xclient]\nfrom = [\"192.0.2.1\", \"::/0\"]\n", "f:3: xclient.from: ::/0 is every address there is"},
		{"PROXY for everybody", least + "[proxy]\nfrom = [\"::/0\"]\n", "f:3: proxy.from: ::/0 is every address there is"},
		{"LMTP for everybody", least + "[listen]\nlmtp_from = [\"0.0.0.0/0\"]\n", "f:3: listen.lmtp_from: 0.0.0.0/0 is every address there is"},
		{"separator that ends addresses", least + "[smtp]\nsubaddress_separator = \"@\"\n", `f:3: smtp.subaddress_separator: "@" is not one of the marks`},
		{"separator that is a letter", least + "[smtp]\nsubaddress_separator = \"a\"\n", `f:3: smtp.subaddress_separator: "a" is not one of the marks`},
		{"separator of two", least + "[smtp]\nsubaddress_separator = \"++\"\n", `f:3: smtp.subaddress_separator: "++" is not one of the marks`},
		{"separator beyond ASCII", least + "[smtp]\nsubaddress_separator = \"é\"\n", `f:3: smtp.subaddress_separator: "é" is not one of the marks`},
		{"rate beyond nanoseconds", least + "[limits]\nconnection_rate = 9223372036854775807\n", "f:3: limits.connection_rate: 9223372036854775807 is too large; the most is 1000000"},
		{"hourly limit beyond nanoseconds", least + "[submission]\nhourly_limit = 9223372036854775807\n", "f:3: submission.hourly_limit: 9223372036854775807 is too large"},
		{"message larger than the store takes", least + "[smtp]\nmax_size = \"2GiB\"\n", "f:3: smtp.max_size: 2GiB is too large; the most is 1GiB"},
		{"quoted key", least + "[smtp]\n\"max\\u005fsiz\" = 1\n", "f:3: smtp.max_siz: is not a known key; did you mean smtp.max_size?"},
		{"retry without a pause", least + "[relay]\nretry = []\n", `f:3: relay.retry: is empty; name at least one pause`},
		{"retry in a hurry", least + "[relay]\nretry = [\"1s\"]\n", "f:3: relay.retry: 1s is too small; the least is 10s"},
		{"source that is a name", least + "[relay]\nsources = [\"mail\"]\n", `f:3: relay.sources: "mail" is not an IP address of this host`},
		{"dane without a trusted server", least + "[[relay.tls_policy]]\ndomain = \"example.com\"\nlevel = \"dane\"\n", `f:4: relay.tls_policy[0].level: "dane" needs a name server`},
		{"smart host without a port", least + "[[relay.route]]\nname = \"a\"\nhost = \"smtp.example.net\"\n", `f:4: relay.route[0].host: "smtp.example.net" is not a host with a port`},
		{"password in the clear", least + "[[relay.route]]\nname = \"a\"\nhost = \"s.example.net:587\"\ntls = \"opportunistic\"\nuser = \"u\"\npassword_file = \"p\"\n", `f:5: relay.route[0].tls: "opportunistic" could send the password`},
		{"two routes of a name", least + "[[relay.route]]\nname = \"a\"\nhost = \"mx\"\n[[relay.route]]\nname = \"a\"\nhost = \"mx\"\n", `relay.route[1].name: "a" is the name of another route`},
		{"relay domain with an idle file", least + "[[relay.domain]]\ndomain = \"example.com\"\nrecipient_file = \"x\"\n", `f:4: relay.domain[0].recipient_file: goes with recipients = "list"`},
		{"huge", strings.Repeat("#", 1<<20+1), "the file is longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse("f", []byte(tt.doc))
			if err == nil {
				t.Fatal("got no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q\nwant it to hold %q", err, tt.want)
			}
			if len(config.Problems(err)) == 0 {
				t.Errorf("Problems finds nothing in %q", err)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Parse("f", []byte("hostnam = \"x\"\n[smtp]\nmax_size = \"huge\"\nmax_errors = 0\n[tls]\nmode = true\n"))
	got := config.Problems(err)
	if len(got) != 5 {
		t.Errorf("got %d problems, want 5:\n%v", len(got), err)
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"0s", "90s", "1h30m", "14d", "10m", "1h", "36h30m"} {
		var d, again config.Duration
		if err := d.UnmarshalText([]byte(s)); err != nil {
			t.Error(err)
		}
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			t.Errorf("duration %s printed as %s is read as %v (%v)", s, d, again, err)
		}
	}
	for _, s := range []string{"0", "1", "1536", "25MiB", "1TiB", "64KiB"} {
		var v config.Size
		if err := v.UnmarshalText([]byte(s)); err != nil || v.String() != s {
			t.Errorf("size %s printed as %s (%v)", s, v, err)
		}
	}
}

func TestInitialTextIsRight(t *testing.T) {
	t.Parallel()
	for _, in := range []config.Initial{
		{Hostname: "mail.example.org", Data: "/var/lib/poczta", TLSMode: "self-signed"},
		{Hostname: "mail.example.org", Data: "/d", TLSMode: "acme", ACMEEmail: "a@b.example", ListenHosts: []string{"127.0.0.1"}, PortBase: 10000,
			Metrics: "127.0.0.1:25", PlaintextFrom: []string{"127.0.0.0/8"}, PostgresURL: "postgres://h/d"},
		{Hostname: "mail.example.org", Data: "/d", TLSMode: "files"},
	} {
		c, err := config.Parse("initial", []byte(in.Text()))
		if in.Metrics == "127.0.0.1:25" { // the same port twice must be refused, which shows that the text is checked
			if err == nil {
				t.Error("a port used twice was accepted")
			}
			in.Metrics = "127.0.0.1:9025"
			c, err = config.Parse("initial", []byte(in.Text()))
		}
		if err != nil {
			t.Errorf("%v\n%s", err, in.Text())
			continue
		}
		if c.Hostname != in.Hostname || c.Data != in.Data || c.TLS.Mode != in.TLSMode || c.Listen.PortBase != in.PortBase {
			t.Errorf("got %+v from\n%s", c, in.Text())
		}
	}
}

func TestLoadAbsent(t *testing.T) {
	t.Parallel()
	_, err := config.Load(filepath.Join(t.TempDir(), "none.toml"))
	if err == nil || !strings.Contains(err.Error(), "poczta setup") {
		t.Errorf("got %v, want a word of what to do", err)
	}
}

func TestDocumentIsCurrent(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "configuration.md")
	doc := config.Document()
	if *update {
		if err := os.WriteFile(path, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != doc {
		t.Error("docs/configuration.md is old; run go generate ./internal/config")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	f.Add([]byte("[[tls.certificate]]\n[tls.certificate.x]\na.b=1\n[a]\n[[a.b]]\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := config.Parse("f", doc)
		if (c == nil) == (err == nil) {
			t.Fatalf("got %v and %v", c, err)
		}
		if err != nil && len(config.Problems(err)) == 0 {
			t.Fatalf("%v holds no Problem", err)
		}
	})
}
