package clientconfig_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
)

func parse(t *testing.T, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ours are settings as our own server tells them.
func ours() clientconfig.Config {
	password := []clientconfig.Authentication{clientconfig.Password}
	return clientconfig.Config{ID: "example.org", Domains: []string{"example.org"}, Name: "Mail & more", ShortName: "Mail",
		Incoming: []clientconfig.Server{
			{Protocol: clientconfig.POP3, Host: "mail.example.org", Port: 995, Security: clientconfig.TLS, Authentications: password, Username: clientconfig.PatternAddress, LeaveOnServer: true},
			{Protocol: clientconfig.POP3, Host: "mail.example.org", Port: 110, Security: clientconfig.StartTLS, Authentications: password, Username: clientconfig.PatternAddress},
		},
		Outgoing: []clientconfig.Server{
			{Protocol: clientconfig.SMTP, Host: "mail.example.org", Port: 465, Security: clientconfig.TLS, Authentications: password, Username: clientconfig.PatternAddress},
			{Protocol: clientconfig.SMTP, Host: "mail.example.org", Port: 587, Security: clientconfig.StartTLS, Authentications: password, Username: clientconfig.PatternAddress},
		},
		OAuth:         &clientconfig.OAuth{Issuer: "login.example.org", Scope: "mail other", AuthURL: "https://login.example.org/auth", TokenURL: "https://login.example.org/token"},
		Documentation: []clientconfig.Link{{URL: "https://example.org/help?a=1&b=<2>", Text: "How to \"set up\""}},
	}
}

// TestForeign reads the settings of sixty providers, and writes and reads them again.
func TestForeign(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "autoconfig", "ispdb", "*.xml"))
	if len(files) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("POCZTA_TESTDATA does not name the foreign test data")
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	pop, servers := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := clientconfig.Parse(text)
		if err != nil || len(c.Skipped) > 0 {
			t.Errorf("%s: %v, left out: %q", filepath.Base(file), err, c.Skipped)
			continue
		}
		if n := strings.Count(string(text), "<hostname>"); n != len(c.Incoming)+len(c.Outgoing) {
			t.Errorf("%s: %d servers read of %d", filepath.Base(file), len(c.Incoming)+len(c.Outgoing), n)
		}
		if n := strings.Count(string(text), "<domain>"); n != len(c.Domains) {
			t.Errorf("%s: %d domains read of %d", filepath.Base(file), len(c.Domains), n)
		}
		servers += len(c.Incoming) + len(c.Outgoing)
		for _, s := range append(c.Incoming, c.Outgoing...) {
			if s.Username == "" || len(s.Authentications) == 0 {
				t.Errorf("%s: %+v has no name or authentication", filepath.Base(file), s)
			}
		}
		if len(c.Incoming) > 0 && c.For(parse(t, "ala@example.org")).Incoming[0].Protocol == clientconfig.POP3 {
			pop++
		}
		again, err := clientconfig.Parse(c.XML())
		if diff := cmp.Diff(c, again); err != nil || diff != "" {
			t.Errorf("%s: written and read again: %v %s", filepath.Base(file), err, diff)
		}
	}
	if len(files) != 60 || servers != 196 || pop == 0 {
		t.Errorf("read %d files with %d servers, %d with POP3 first", len(files), servers, pop)
	}
}

// TestForms writes settings in each form and reads them again.
func TestForms(t *testing.T) {
	t.Parallel()
	c, ala := ours(), parse(t, "ala.ma@example.org")
	again, err := clientconfig.Parse(c.XML())
	if diff := cmp.Diff(c, again); err != nil || diff != "" {
		t.Errorf("clientConfig: %v %s", err, diff)
	}

	ans, err := clientconfig.ParseAnswer(c.Autodiscover(ala), ala)
	want := clientconfig.Answer{Config: clientconfig.Config{ID: "example.org", Incoming: c.Incoming, Outgoing: c.Outgoing}}
	want.Config.Incoming[0].LeaveOnServer = false // no word for it
	if diff := cmp.Diff(want, ans); err != nil || diff != "" {
		t.Errorf("autodiscovery: %v %s", err, diff)
	}
	q, err := clientconfig.ParseQuestion(clientconfig.Ask(ala))
	if err != nil || q.Address != ala.String() || !strings.HasSuffix(q.Schema, "/outlook/responseschema/2006a") {
		t.Errorf("question: %+v %v", q, err)
	}
	no, err := clientconfig.ParseAnswer(clientconfig.Refuse(clientconfig.CodeUnknown, "Not <here>"), ala)
	if diff := cmp.Diff(clientconfig.Answer{Code: 500, Message: "Not <here>"}, no); err != nil || diff != "" {
		t.Errorf("refusal: %v %s", err, diff)
	}

	profile, err := c.Apple(ala)
	if err != nil {
		t.Fatal(err)
	}
	apple, err := clientconfig.ParseApple(profile)
	if err != nil || len(apple.Incoming) != 1 || len(apple.Outgoing) != 1 || apple.Name != c.Name {
		t.Fatalf("profile: %+v %v", apple, err)
	}
	if diff := cmp.Diff(c.Incoming[0], apple.Incoming[0]); diff != "" {
		t.Error("profile, incoming:", diff)
	}
	if diff := cmp.Diff(c.Outgoing[0].Host, apple.Outgoing[0].Host); diff != "" {
		t.Error("profile, outgoing:", diff)
	}
	if twice, _ := c.Apple(parse(t, "ALA.MA@example.org")); strings.Count(string(profile), "PayloadUUID") != 2 || uuids(profile) != uuids(twice) {
		t.Error("a profile fetched again would not replace the first")
	}
	if other, _ := c.Apple(parse(t, "ola@example.org")); uuids(profile) == uuids(other) {
		t.Error("two people's profiles replace each other")
	}
	if strings.Contains(strings.ToLower(string(profile)), "password</key>") && !strings.Contains(string(profile), "OutgoingPasswordSameAsIncomingPassword") {
		t.Error("a profile holds a password")
	}
}

// uuids are the UUIDs in a profile.
func uuids(profile []byte) string {
	out := ""
	for part := range strings.SplitSeq(string(profile), "<key>PayloadUUID</key>") {
		value, _, _ := strings.Cut(part, "</string>")
		out += strings.TrimSpace(value) + " "
	}
	_, out, _ = strings.Cut(out, " ")
	return out[strings.Index(out, "<string>"):]
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	ala := parse(t, "ala@xn--cisz-4qa.example")
	for _, c := range []struct{ username, want string }{
		{"", "ala@xn--cisz-4qa.example"},
		{"%EMAILADDRESS%", "ala@xn--cisz-4qa.example"},
		{"%EMAILLOCALPART%", "ala"},
		{"%EMAILLOCALPART%.%EMAILDOMAIN%", "ala.xn--cisz-4qa.example"},
		{"fixed", "fixed"},
		{"%REALNAME%", "%REALNAME%"},
	} {
		if got := (clientconfig.Server{Username: c.username}).Login(ala); got != c.want {
			t.Errorf("%q: got %q, want %q", c.username, got, c.want)
		}
	}
	evil := parse(t, `"%EMAILDOMAIN%"@example.org`) // what a name holds is no pattern
	if got := (clientconfig.Server{Username: "%EMAILLOCALPART%"}).Login(evil); got != "%EMAILDOMAIN%" {
		t.Errorf("got %q", got)
	}
	c, err := clientconfig.Parse([]byte(server(`<hostname>pop.%EMAILDOMAIN%</hostname><port>995</port><socketType>SSL</socketType>`)))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.For(ala).Incoming[0].Host; got != "pop.xn--cisz-4qa.example" {
		t.Errorf("got %q", got)
	}
	if got := c.For(parse(t, "ala@[192.0.2.1]")).Incoming; len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

// server is a clientConfig with one POP3 server.
func server(inside string) string {
	return `<clientConfig version="1.1"><emailProvider id="x"><incomingServer type="pop3">` + inside + `</incomingServer></emailProvider></clientConfig>`
}

const host = `<hostname>a.example</hostname>`

// TestTolerance reads what is written carelessly, and leaves out what can't be meant.
func TestTolerance(t *testing.T) {
	t.Parallel()
	secure := clientconfig.Server{Protocol: clientconfig.POP3, Host: "a.example", Port: 995, Security: clientconfig.TLS}
	with := func(change func(*clientconfig.Server)) *clientconfig.Server { s := secure; change(&s); return &s }
	for _, c := range []struct {
		name, text string
		want       *clientconfig.Server
		skipped    string
	}{
		{"plain", server(host + `<port>995</port><socketType>SSL</socketType>`), &secure, ""},
		{"byte order mark, white space, a foreign element", "\ufeff<?xml version=\"1.0\"?>\n" + server("<hostname>\n A.Example. </hostname><x:y xmlns:x='z'/><port> 995 </port><socketType> ssl </socketType>"), &secure, ""},
		{"TLS for SSL", server(host + `<port>995</port><socketType>TLS</socketType>`), &secure, ""},
		{"words of version 1.0", server(host + `<port>995</port><socketType>SSL</socketType><authentication>plain</authentication><authentication>secure</authentication>`),
			with(func(s *clientconfig.Server) {
				s.Authentications = []clientconfig.Authentication{clientconfig.Password, clientconfig.Encrypted}
			}), ""},
		{"restriction", server(host + `<port>995</port><socketType>SSL</socketType><restriction>client-IP-address</restriction>`),
			with(func(s *clientconfig.Server) {
				s.Authentications = []clientconfig.Authentication{clientconfig.ClientIP}
			}), ""},
		{"international host", server(`<hostname>pocztą.example</hostname><port>995</port><socketType>SSL</socketType>`),
			with(func(s *clientconfig.Server) { s.Host = "xn--poczt-7wa.example" }), ""},
		{"address", server(`<hostname>[2001:db8::1]</hostname><port>995</port><socketType>SSL</socketType>`),
			with(func(s *clientconfig.Server) { s.Host = "2001:db8::1" }), ""},
		{"Latin-2", "<?xml version=\"1.0\" encoding=\"ISO-8859-2\"?>" + server(host+"<port>995</port><socketType>SSL</socketType><username>\xb1</username>"),
			with(func(s *clientconfig.Server) { s.Username = "ą" }), ""},
		{"port out of range", server(host + `<port>65536</port><socketType>SSL</socketType>`), nil, "is no port"},
		{"port zero", server(host + `<port>0</port><socketType>SSL</socketType>`), nil, "is no port"},
		{"no security", server(host + `<port>995</port>`), nil, "socketType"},
		{"host of nonsense", server(`<hostname>a b/c</hostname><port>995</port><socketType>SSL</socketType>`), nil, "is no host name"},
		{"host with a port", server(`<hostname>a.example:995</hostname><port>995</port><socketType>SSL</socketType>`), nil, "is no host name"},
		{"unknown authentication", server(host + `<port>995</port><socketType>SSL</socketType><authentication>telepathy</authentication>`), nil, "no authentication"},
		{"SMTP as incoming", strings.Replace(server(host+`<port>995</port><socketType>SSL</socketType>`), `"pop3"`, `"smtp"`, 1), nil, "type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := clientconfig.Parse([]byte(c.text))
			if c.want == nil {
				if !errors.Is(err, clientconfig.ErrEmpty) || len(got.Skipped) != 1 || !strings.Contains(got.Skipped[0], c.skipped) {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if err != nil || len(got.Incoming) != 1 {
				t.Fatalf("got %+v, %v", got, err)
			}
			if diff := cmp.Diff(*c.want, got.Incoming[0]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestHostile has documents that want to cost much, or to have something fetched.
func TestHostile(t *testing.T) {
	t.Parallel()
	laughs := `<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;">]>` + server(`<hostname>&lol2;</hostname>`)
	outside := `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + server(`<hostname>&e;</hostname>`)
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"entities that grow", laughs, clientconfig.ErrSyntax},
		{"an entity from outside", outside, clientconfig.ErrSyntax},
		{"too long", server(strings.Repeat(" ", clientconfig.MaxOctets)), clientconfig.ErrTooLarge},
		{"too deep", strings.Repeat("<a>", 200) + strings.Repeat("</a>", 200), clientconfig.ErrTooLarge},
		{"too many", "<a>" + strings.Repeat("<b/>", 10_000) + "</a>", clientconfig.ErrTooLarge},
		{"never ends", "<clientConfig>", clientconfig.ErrSyntax},
		{"crossed", "<a><b></a></b>", clientconfig.ErrSyntax},
		{"two roots", "<a/><b/>", clientconfig.ErrSyntax},
		{"empty", "", clientconfig.ErrSyntax},
		{"a page", "<!DOCTYPE html><html><head><meta charset=utf-8></head></html>", clientconfig.ErrSyntax},
		{"a whole page", "<html><body>Not found</body></html>", clientconfig.ErrSyntax},
		{"UTF-16", `<?xml version="1.0" encoding="utf-16"?>` + server(""), clientconfig.ErrSyntax},
		{"no provider", "<clientConfig/>", clientconfig.ErrEmpty},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := clientconfig.Parse([]byte(c.text)); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
			ala := parse(t, "ala@example.org")
			if _, err := clientconfig.ParseAnswer([]byte(c.text), ala); err == nil {
				t.Error("taken as an answer")
			}
			if _, err := clientconfig.ParseApple([]byte(c.text)); err == nil {
				t.Error("taken as a profile")
			}
			if _, err := clientconfig.ParseQuestion([]byte(c.text)); err == nil {
				t.Error("taken as a question")
			}
		})
	}
	many := strings.Repeat(`<incomingServer type="pop3">`+host+`<port>995</port><socketType>SSL</socketType></incomingServer>`, 100)
	c, err := clientconfig.Parse([]byte(`<clientConfig><emailProvider id="x">` + many + `</emailProvider></clientConfig>`))
	if err != nil || len(c.Incoming) != clientconfig.MaxServers || len(c.Skipped) != clientconfig.MaxServers {
		t.Errorf("got %d servers, %d left out, %v", len(c.Incoming), len(c.Skipped), err)
	}
}

// outlook wraps the inside of <Account>.
func outlook(inside string) string {
	return `<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006">` +
		`<Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><Account>` + inside + `</Account></Response></Autodiscover>`
}

func TestAutodiscover(t *testing.T) {
	t.Parallel()
	ala := parse(t, "ala@example.org")
	pop := func(inside string) string {
		return outlook(`<AccountType>email</AccountType><Action>settings</Action><Protocol><Type>POP3</Type><Server>pop.example.org</Server>` + inside + `</Protocol>`)
	}
	base := clientconfig.Server{Protocol: clientconfig.POP3, Host: "pop.example.org", Authentications: []clientconfig.Authentication{clientconfig.Password}}
	with := func(port uint16, sec clientconfig.Security, user string) clientconfig.Server {
		s := base
		s.Port, s.Security, s.Username = port, sec, user
		return s
	}
	for _, c := range []struct {
		name, text string
		want       clientconfig.Server
	}{
		{"nothing said", pop(""), with(995, clientconfig.TLS, "")},
		{"SSL on 995", pop("<Port>995</Port><SSL>on</SSL><LoginName>Ala@Example.org</LoginName>"), with(995, clientconfig.TLS, "%EMAILADDRESS%")},
		{"SSL on 110 is STARTTLS", pop("<Port>110</Port><SSL>on</SSL><LoginName>ala</LoginName>"), with(110, clientconfig.StartTLS, "%EMAILLOCALPART%")},
		{"Encryption has the last word", pop("<Port>110</Port><SSL>off</SSL><Encryption>TLS</Encryption><LoginName>a7</LoginName>"), with(110, clientconfig.StartTLS, "a7")},
		{"no SSL", pop("<SSL>off</SSL>"), with(110, clientconfig.Plain, "")},
	} {
		got, err := clientconfig.ParseAnswer([]byte(c.text), ala)
		if err != nil || len(got.Config.Incoming) != 1 {
			t.Errorf("%s: %+v %v", c.name, got, err)
			continue
		}
		if diff := cmp.Diff(c.want, got.Config.Incoming[0]); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	for _, c := range []struct {
		name, text string
		want       clientconfig.Answer
		err        error
	}{
		{"to another address", outlook("<Action>redirectAddr</Action><RedirectAddr>ala@elsewhere.example</RedirectAddr>"), clientconfig.Answer{RedirectAddress: "ala@elsewhere.example"}, nil},
		{"to another URL", outlook("<Action>redirectUrl</Action><RedirectUrl>https://elsewhere.example/x</RedirectUrl>"), clientconfig.Answer{RedirectURL: "https://elsewhere.example/x"}, nil},
		{"to nowhere", outlook("<Action>redirectUrl</Action>"), clientconfig.Answer{}, clientconfig.ErrSyntax},
	} {
		got, err := clientconfig.ParseAnswer([]byte(c.text), ala)
		if diff := cmp.Diff(c.want, got); diff != "" || !errors.Is(err, c.err) {
			t.Errorf("%s: %v %s", c.name, err, diff)
		}
	}
	exchange := outlook(`<Action>settings</Action><Protocol><Type>EXCH</Type><Server>x</Server></Protocol>`)
	if _, err := clientconfig.ParseAnswer([]byte(exchange), ala); !errors.Is(err, clientconfig.ErrEmpty) {
		t.Errorf("Exchange alone: %v", err)
	}
}

// FuzzParse: whatever is read can be written and read again.
func FuzzParse(f *testing.F) {
	f.Add(ours().XML())
	f.Add([]byte(server(host + `<port>995</port><socketType>SSL</socketType>`)))
	f.Add([]byte(`<clientConfig><emailProvider><incomingServer type="pop3"><hostname>%EMAILDOMAIN%</hostname><port>1</port><socketType>plain</socketType></incomingServer></emailProvider></clientConfig>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := clientconfig.Parse(text)
		if err != nil {
			return
		}
		if len(c.Incoming) > clientconfig.MaxServers || len(c.Outgoing) > clientconfig.MaxServers {
			t.Fatal("more servers than the bound")
		}
		again, err := clientconfig.Parse(c.XML())
		if err != nil && len(c.XML()) <= clientconfig.MaxOctets {
			t.Fatalf("%v in what was written:\n%s", err, c.XML())
		}
		if diff := cmp.Diff(servers(c), servers(again)); err == nil && diff != "" {
			t.Fatal(diff)
		}
	})
}

func servers(c clientconfig.Config) [2][]clientconfig.Server {
	return [2][]clientconfig.Server{c.Incoming, c.Outgoing}
}

// FuzzAnswer reads autodiscovery's answers and questions.
func FuzzAnswer(f *testing.F) {
	ala, err := address.Parse("ala@example.org")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ours().Autodiscover(ala))
	f.Add(clientconfig.Ask(ala))
	f.Add(clientconfig.Refuse(600, "no"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if a, err := clientconfig.ParseAnswer(text, ala); err == nil {
			again, err := clientconfig.ParseAnswer(a.Config.Autodiscover(ala), ala)
			if len(a.Config.Incoming) > 0 && (err != nil || len(again.Config.Incoming) != len(a.Config.Incoming)) {
				t.Fatalf("%v in what was written of %+v", err, a.Config)
			}
		}
		if q, err := clientconfig.ParseQuestion(text); err == nil && len(q.Address) > len(text) {
			t.Fatal("an address longer than the question")
		}
	})
}

// FuzzApple reads profiles.
func FuzzApple(f *testing.F) {
	ala, err := address.Parse("ala@example.org")
	if err != nil {
		f.Fatal(err)
	}
	profile, err := ours().Apple(ala)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(profile)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := clientconfig.ParseApple(text)
		if err == nil && len(c.Incoming)+len(c.Outgoing) == 0 {
			t.Fatal("no server and no error")
		}
	})
}
