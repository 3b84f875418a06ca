package admin_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/resolver"
)

func stream(t testing.TB, messages ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := admin.NewStreamWriter(&b)
	for i, m := range messages {
		f := admin.Facts{Mailbox: "INBOX", UniqueID: strings.Repeat("u", i), Received: time.Unix(int64(i), 0).UTC()}
		if err := w.Write(f, strings.NewReader(m)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStream(t *testing.T) {
	t.Parallel()
	want := []string{"", "short", strings.Repeat("long ", 50000), "last"}
	data := stream(t, want...)
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(data), "halves": iotest.HalfReader(bytes.NewReader(data)), "data with error": iotest.DataErrReader(bytes.NewReader(data))} {
		s := admin.NewStreamReader(r)
		for i, m := range want {
			f, err := s.Next()
			if err != nil || len(f.UniqueID) != i || !f.Received.Equal(time.Unix(int64(i), 0)) {
				t.Fatalf("%s: message %d: got %+v, %v", name, i, f, err)
			}
			if i == 2 {
				continue // skipped by the next Next
			}
			got, err := io.ReadAll(s)
			if err != nil || string(got) != m {
				t.Errorf("%s: message %d: got %d octets, %v", name, i, len(got), err)
			}
		}
		if _, err := s.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: at the end: got %v", name, err)
		}
	}
}

// TestStreamCut ends the stream at every octet: no message is taken for a whole
// one that is not, and no stream.
func TestStreamCut(t *testing.T) {
	t.Parallel()
	data := stream(t, "one", "two")
	first := len(stream(t, "one")) - len(stream(t)) // the end
	second := len(data) - len(stream(t))
	for n := range len(data) {
		s := admin.NewStreamReader(bytes.NewReader(data[:n]))
		whole := 0
		for {
			if _, err := s.Next(); err != nil {
				if errors.Is(err, io.EOF) {
					t.Errorf("cut at %d: the end was taken for a good one", n)
				}
				break
			}
			if _, err := io.ReadAll(s); err != nil {
				break
			}
			whole++
		}
		if want := map[bool]int{true: 1}[n >= first] + map[bool]int{true: 1}[n >= second]; whole != want {
			t.Errorf("cut at %d: got %d whole messages, want %d", n, whole, want)
		}
	}
}

func FuzzStream(f *testing.F) {
	f.Add(stream(f, "one", "two"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := admin.NewStreamReader(bytes.NewReader(data))
		for {
			if _, err := s.Next(); err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, s); err != nil {
				return
			}
		}
	})
}

const zone = `
mail.example.org. A 192.0.2.1
mx.example.org. A 192.0.2.1
1.2.0.192.in-addr.arpa. PTR mail.example.org.
good.example. MX 10 mail.example.org.
other.example. MX 10 mx.example.org.
away.example. MX 10 mx.elsewhere.example.
mx.elsewhere.example. A 198.51.100.1
none.example. A 192.0.2.5
!servfail broken.example
`

func TestCheckDNS(t *testing.T) {
	t.Parallel()
	z, err := resolver.NewZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("f", []byte("hostname = \"mail.example.org\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := admin.CheckDNS(t.Context(), c, z, []string{"good.example", "other.example", "away.example", "none.example", "broken.example"})
	want := []struct {
		level admin.Level
		text  string
	}{
		{admin.Fine, "mail.example.org is 192.0.2.1 and back"},
		{admin.Fine, "mail for good.example comes to mail.example.org"},
		{admin.Fine, "another name of this host"},
		{admin.Warning, "mail for away.example goes to mx.elsewhere.example, not here"},
		{admin.Warning, "MX of none.example: there is none"},
		{admin.Warning, "DNS gave no answer"},
	}
	if len(got) != len(want) {
		t.Fatalf("got %d findings: %v", len(got), got)
	}
	for i, w := range want {
		if got[i].Level != w.level || !strings.Contains(got[i].Text, w.text) {
			t.Errorf("finding %d: got %v, want %s %s", i, got[i], w.level, w.text)
		}
		if w.level != admin.Fine && got[i].Remedy == "" {
			t.Errorf("finding %d has no remedy", i)
		}
	}
	c.Hostname = "unknown.example.org"
	if f := admin.CheckDNS(t.Context(), c, z, nil); len(f) != 1 || f[0].Level != admin.Warning || !strings.Contains(f[0].Remedy, "A (and AAAA)") {
		t.Errorf("got %v", f)
	}
}

func TestCheckHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := config.Parse("f", []byte(`hostname = "mail.example.org"
data = "`+dir+`"
[listen]
smtp = ["unix:taken/smtp.sock"]
submission = []
submissions = []
lmtp = []
pop3 = ["unix:pop3.sock"]
pop3s = []
[auth]
plaintext_from = ["192.0.2.0/24"]
[tls]
mode = "files"
[[tls.certificate]]
cert = "`+filepath.Join(dir, "none")+`"
key = "none"
[store]
reserve = "8191TiB"
`))
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, f := range admin.CheckHost(t.Context(), c, false, nil) {
		text += f.String() + "\n"
	}
	for _, want := range []string{"ok      ports         pop3 ", "its folder does not exist yet", "error   tls           tls.certificate[0]", "less than the reserve",
		"passwords may cross a network"} {
		if !strings.Contains(text, want) {
			t.Errorf("no finding says %q:\n%s", want, text)
		}
	}
	if text := admin.CheckHost(t.Context(), c, true, nil)[1]; text.Level != admin.Failed {
		t.Errorf("a port that does not answer while the server runs: got %v", text)
	}
}

// TestCheckInherited: sockets that the service manager opened stand for those that
// the configuration names for the service.
func TestCheckInherited(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := config.Parse("f", []byte(`hostname = "mail.example.org"
data = "`+dir+`"
[listen]
smtp = ["unix:smtp.sock"]
submission = []
submissions = []
lmtp = []
pop3 = []
pop3s = []
`))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ports := func(open bool) []admin.Finding {
		var out []admin.Finding
		for _, f := range admin.CheckHost(t.Context(), c, true, []daemon.Listening{{Service: "smtp", Network: "tcp", Address: l.Addr().String(), Inherited: open}}) {
			if f.Area == "ports" && strings.HasPrefix(f.Text, "smtp ") {
				out = append(out, f)
			}
		}
		return out
	}
	if got := ports(true); len(got) != 1 || got[0].Level != admin.Fine || got[0].Text != "smtp "+l.Addr().String()+", opened by the service manager" {
		t.Errorf("inherited: got %v", got)
	}
	if got := ports(false); len(got) != 1 || got[0].Level != admin.Failed {
		t.Errorf("not inherited: got %v, want an error about smtp.sock", got)
	}
	l.Close()
	if got := ports(true); len(got) != 1 || got[0].Level != admin.Failed {
		t.Errorf("inherited and closed: got %v", got)
	}
}

func TestZoneLines(t *testing.T) {
	t.Parallel()
	d, err := address.ParseDomain("przykład.pl")
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Hostname, c.Listen.PortBase, c.Listen.POP3 = "mail.example.org", 10000, nil
	lines := admin.ZoneLines(admin.Records(d, c), c.Hostname)
	for _, want := range []string{" 0 1 10465 mail.example.org.\n", " 0 1 10587 mail", " 0 1 10995 mail", " 0 0 0 .\n"} {
		if !strings.Contains(lines, want) {
			t.Errorf("want %q in\n%s", want, lines)
		}
	}
	if _, err := resolver.NewZone(lines); err != nil {
		t.Errorf("not zone lines: %v\n%s", err, lines)
	}
	z, _ := resolver.NewZone(lines)
	if mx, err := resolver.Exchangers(t.Context(), z, d.String()); err != nil || mx[0].Host != "mail.example.org" {
		t.Errorf("got %v, %v", mx, err)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\tb → żółw":           "a\tb → żółw",
		"\x1b[31mred\a\r\n":     `\x1b[31mred\a\r\n`,
		"\xff\x00\u202egpj.exe": `\xff\x00\u202egpj.exe`,
		"\u009b2J\x7f":          `\u009b2J\x7f`,
	} {
		if got := admin.Printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
