package profile_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mua/profile"
)

func open(t *testing.T) *profile.Profiles {
	t.Helper()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{profile.Schema}); err != nil {
		t.Fatal(err)
	}
	return profile.New(d)
}

func account(addr string) profile.Account {
	s := func(p clientconfig.Protocol, port uint16) profile.Server {
		return profile.Server{Server: clientconfig.Server{Protocol: p, Host: "mail.example.org", Port: port, Security: clientconfig.TLS}, Login: addr}
	}
	return profile.Account{Address: addr, Name: "Ala", Incoming: s(clientconfig.POP3, 995), Outgoing: s(clientconfig.SMTP, 465),
		Policy: profile.Policy{Keep: profile.Days, Days: 30}, Created: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}
}

func TestAccountsStayAsTheyWereSetUp(t *testing.T) {
	t.Parallel()
	p := open(t)
	first, err := p.Add(t.Context(), account("ala@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Add(t.Context(), account("Ala@EXAMPLE.org")); !errors.Is(err, profile.ErrExists) {
		t.Errorf("the same address in capitals: %v", err)
	}
	second, err := p.Add(t.Context(), account("żaba@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	second.Policy.Keep, second.Aliases = profile.Leave, []string{"frog@example.org"}
	if err := p.Update(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	all, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]profile.Account{first, second}, all); diff != "" {
		t.Error(diff)
	}
	second.Address = "ala@example.org"
	if err := p.Update(t.Context(), second); !errors.Is(err, profile.ErrExists) {
		t.Errorf("an account took another's address: %v", err)
	}
}

func TestNumbersAreNotUsedTwice(t *testing.T) {
	t.Parallel()
	p := open(t)
	first, err := p.Add(t.Context(), account("ala@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), first.ID); !errors.Is(err, profile.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	again, err := p.Add(t.Context(), account("ala@example.org"))
	if err != nil || again.ID == first.ID {
		t.Errorf("number %d after %d, %v", again.ID, first.ID, err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	p := open(t)
	if _, err := p.Find(t.Context(), ""); !errors.Is(err, profile.ErrNotFound) {
		t.Errorf("found an account among none: %v", err)
	}
	a := account("ala@example.org")
	a.Aliases = []string{"office@example.net"}
	for _, a := range []profile.Account{a, account("alan@example.org"), account("ola@example.org")} {
		if _, err := p.Add(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"ala@example.org": "ala@example.org", "ALA@example.org": "ala@example.org", "office@example.net": "ala@example.org",
		"3": "ola@example.org", "alan": "alan@example.org", "al": "", "": "", "nobody": "", "ol": "ola@example.org",
	} {
		got, err := p.Find(t.Context(), name)
		if got.Address != want || (want == "") != errors.Is(err, profile.ErrNotFound) {
			t.Errorf("%q leads to %q, %v; want %q", name, got.Address, err, want)
		}
	}
	for name, want := range map[string]string{
		"":       "there are 3 accounts; name one: ala@example.org, alan@example.org, ola@example.org",
		"al":     `"al" begins the addresses of 2 accounts; write more of it: ala@example.org, alan@example.org`,
		"nobody": `"nobody": no such account; see poczta mail accounts`,
	} {
		if _, err := p.Find(t.Context(), name); err == nil || err.Error() != want {
			t.Errorf("%q is answered with %v; want %s", name, err, want)
		}
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*profile.Account)
		says   string
	}{
		{"address", func(a *profile.Account) { a.Address = "ala" }, `address "ala"`},
		{"alias", func(a *profile.Account) { a.Aliases = []string{"@"} }, `further address "@"`},
		{"IMAP", func(a *profile.Account) { a.Incoming.Protocol = clientconfig.IMAP }, "must be pop3"},
		{"no host", func(a *profile.Account) { a.Outgoing.Host = "" }, "give its host and port"},
		{"key without certificate", func(a *profile.Account) { a.Outgoing.KeyFile = "k" }, "both its file and its key"},
		{"external without certificate", func(a *profile.Account) { a.Incoming.External = true }, "EXTERNAL needs"},
		{"accepted", func(a *profile.Account) { a.Incoming.Accepted = "ff" }, "64 hexadecimal"},
		{"policy", func(a *profile.Account) { a.Policy.Keep = "" }, "leave, days or fetched"},
		{"days", func(a *profile.Account) { a.Policy.Days = 0 }, "1 to 36500"},
		{"size", func(a *profile.Account) { a.Policy.HeadersAbove = -1 }, "negative"},
	}
	p := open(t)
	for _, tt := range tests {
		a := account("ala@example.org")
		tt.change(&a)
		if _, err := p.Add(t.Context(), a); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want %q in it", tt.name, err, tt.says)
		}
	}
	if all, err := p.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%d accounts stored, %v", len(all), err)
	}
}

// TestSettingsHaveOneSpelling writes all names in lower case, which scripts read, and reads those
// that were written before.
func TestSettingsHaveOneSpelling(t *testing.T) {
	t.Parallel()
	a := account("ala@example.org")
	a.OAuth = &clientconfig.OAuth{Issuer: "i", Scope: "s", AuthURL: "https://a/", TokenURL: "https://t/"}
	a.Incoming.Authentications, a.Incoming.Username, a.Incoming.LeaveOnServer = []clientconfig.Authentication{clientconfig.OAuth2}, "u", true
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`"[^"]*":`).FindAllString(string(text), -1) {
		if name != strings.ToLower(name) {
			t.Errorf("%s in %s", name, text)
		}
	}
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{profile.Schema}); err != nil {
		t.Fatal(err)
	}
	old := `{"address":"a@x","incoming":{"Protocol":"pop3","Host":"h","Port":995,"Security":"ssl","Authentications":["OAuth2"],"Username":"","LeaveOnServer":false,"login":"l"},"oauth":{"Issuer":"i","Scope":"s","AuthURL":"https://a/","TokenURL":"https://t/"}}`
	err = d.Update(t.Context(), func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO profile (id, address, place, settings) VALUES (1, 'a@x', 1, ?)`, old)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := profile.New(d).List(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	want := profile.Account{ID: 1, Address: "a@x", OAuth: a.OAuth, Incoming: profile.Server{Login: "l",
		Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: "h", Port: 995, Security: clientconfig.TLS, Authentications: []clientconfig.Authentication{clientconfig.OAuth2}}}}
	want.Incoming.Security, want.Incoming.Authentications = "ssl", []clientconfig.Authentication{"OAuth2"}
	if diff := cmp.Diff(want, all[0]); diff != "" {
		t.Error(diff)
	}
}

func TestSettingsOfALaterReleaseAreNoFault(t *testing.T) {
	t.Parallel()
	d, err := db.OpenSQLite(t.Context(), db.SQLiteConfig{Path: filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := db.Migrate(t.Context(), d, []db.Component{profile.Schema}); err != nil {
		t.Fatal(err)
	}
	err = d.Update(t.Context(), func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO profile (id, address, place, settings) VALUES (1, 'a@x', 1, '{"address":"a@x","new":{"b":1}}')`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := profile.New(d).List(t.Context()); err != nil || len(all) != 1 || all[0].Address != "a@x" {
		t.Errorf("%+v, %v", all, err)
	}
}
