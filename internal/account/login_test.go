package account_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/sasl"
)

// results counts what Hooks.Login says.
type results struct {
	mu    sync.Mutex
	count map[string]int
}

func (r *results) hook(_, mechanism, result string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == nil {
		r.count = map[string]int{}
	}
	r.count[mechanism+" "+result]++
}

func (r *results) get(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count[key]
}

// scramLogin runs the exchange with xdg-go's client against our server.
func scramLogin(t testing.TB, a *account.Accounts, user, password string) (sasl.Identity, error) {
	t.Helper()
	client, err := scram.SHA256.NewClientUnprepped(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	conv := client.NewConversation()
	x, err := sasl.New(sasl.ScramSHA256, sasl.Options{Verifier: a, Peer: peer})
	if err != nil {
		t.Fatal(err)
	}
	challenge := ""
	for {
		response, err := conv.Step(challenge)
		if err != nil {
			return sasl.Identity{}, fmt.Errorf("client: %w", err)
		}
		next, done, err := x.Next(context.Background(), []byte(response))
		if err != nil {
			return sasl.Identity{}, err
		}
		if done {
			if !conv.Valid() {
				t.Error("the client does not believe the server")
			}
			return x.Identity(), nil
		}
		challenge = string(next)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		var seen results
		a := open(t, d, func(c *account.Config) {
			c.Hooks.Login = seen.hook
		})
		addDomain(t, a, "example.org")
		const password = "zażółć gęślą jaźń"
		ala := add(t, a, "ala@example.org", "Ala.Kot", password)
		plain := func(user, password string) error {
			id, err := a.VerifyPlain(ctx, peer, "", user, password)
			if err == nil && (id.Account != ala.ID || id.Login != "Ala.Kot") {
				t.Errorf("%s: got identity %+v", user, id)
			}
			return err
		}
		wantErr(t, "login", plain("ala.KOT", password), nil)
		wantErr(t, "address", plain("Ala@Example.ORG", password), nil)
		if got := seen.get("plain cached"); got != 1 {
			t.Errorf("%d cached logins, want 1", got)
		}
		for _, bad := range []string{"", "x", password + "x", strings.ToUpper(password), strings.Repeat("x", 100_000)} {
			wantErr(t, fmt.Sprintf("password %.20q", bad), plain("ala.kot", bad), sasl.ErrCredentials)
		}
		for _, bad := range []string{"", "nobody", "nobody@example.org", "ala@", "a b", "ala.kot\x00", "\xff", strings.Repeat("x", 1000)} {
			wantErr(t, fmt.Sprintf("login %.20q", bad), plain(bad, password), sasl.ErrCredentials)
		}
		// Decomposed letters are the same password (SASLprep).
		wantErr(t, "decomposed", plain("ala.kot", "zaz\u0307o\u0301łc\u0301 ge\u0328s\u0301la\u0328 jaz\u0301n\u0301"), nil)

		for user, want := range map[string]error{"ala@example.org": nil, "Ala.Kot": nil} {
			_, err := a.VerifyPlain(ctx, peer, user, "ala.kot", password)
			wantErr(t, "authzid "+user, err, want)
		}
		ola := add(t, a, "ola@example.org", "", "hasło-oli")
		_, err := a.VerifyPlain(ctx, peer, "ola@example.org", "ala.kot", password)
		wantErr(t, "authzid of another", err, sasl.ErrCredentials)

		id, err := scramLogin(t, a, "ala.kot", password)
		if err != nil || id.Account != ala.ID {
			t.Errorf("SCRAM: %+v, %v", id, err)
		}
		for user, password := range map[string]string{"ala.kot": "wrong-password", "nobody": password, "a,b=c": password} {
			_, err := scramLogin(t, a, user, password)
			wantErr(t, "SCRAM "+user, err, sasl.ErrCredentials)
		}

		if err := a.SetPassword(ctx, ala.ID, "new-password"); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "old password", plain("ala.kot", password), sasl.ErrCredentials)
		wantErr(t, "new password", plain("ala.kot", "new-password"), nil)
		if err := a.Disable(ctx, ala.ID); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "disabled", plain("ala.kot", "new-password"), sasl.ErrDisabled)
		wantErr(t, "disabled and wrong", plain("ala.kot", "other-password"), sasl.ErrCredentials)
		_, err = scramLogin(t, a, "ala.kot", "new-password")
		wantErr(t, "SCRAM disabled", err, sasl.ErrDisabled)
		if err := a.Enable(ctx, ala.ID); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "enabled", plain("ala.kot", "new-password"), nil)
		if err := a.SetPassword(ctx, ala.ID, ""); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "removed password", plain("ala.kot", "new-password"), sasl.ErrCredentials)
		wantErr(t, "empty password", plain("ala.kot", ""), sasl.ErrCredentials)
		if err := a.Remove(ctx, ola.ID); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "removed account", plain("ola@example.org", "hasło-oli"), sasl.ErrCredentials)
	})
}

func TestAppPasswords(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org")
		ala := add(t, a, "ala@example.org", "", "korek-butelka")
		none := add(t, a, "none@example.org", "", "")
		phone, secret, err := a.AddAppPassword(ctx, ala.ID, "phone")
		if err != nil {
			t.Fatal(err)
		}
		_, second, err := a.AddAppPassword(ctx, ala.ID, "printer")
		if err != nil {
			t.Fatal(err)
		}
		_, lone, err := a.AddAppPassword(ctx, none.ID, "only")
		if err != nil {
			t.Fatal(err)
		}
		if len(secret) != 29 || secret == second {
			t.Errorf("got %q and %q", secret, second)
		}
		try := func(user, password string, want error) {
			t.Helper()
			_, err := a.VerifyPlain(ctx, peer, "", user, password)
			wantErr(t, "PLAIN "+user, err, want)
			_, err = scramLogin(t, a, user, password)
			wantErr(t, "SCRAM "+user, err, want)
		}
		const user = "ala@example.org"
		try(user, secret, nil)
		try(user, second, nil)
		try(user, "korek-butelka", nil)
		try("none@example.org", lone, nil)
		try("none@example.org", secret, sasl.ErrCredentials)
		try("nobody@example.org", secret, sasl.ErrCredentials)
		if _, err := a.VerifyPlain(ctx, peer, "", user, strings.ToUpper(strings.ReplaceAll(secret, "-", " "))); err != nil {
			t.Errorf("with spaces: %v", err)
		}
		if err := a.SetPassword(ctx, ala.ID, "butelka-korek"); err != nil {
			t.Fatal(err)
		}
		try(user, secret, nil)
		try(user, "butelka-korek", nil)

		// More iterations: SCRAM of an app password comes back with its first PLAIN login.
		more := open(t, d, func(c *account.Config) { c.Iterations = 2 * iterations })
		if err := more.SetPassword(ctx, ala.ID, "korek-butelka"); err != nil {
			t.Fatal(err)
		}
		a = open(t, d, func(c *account.Config) { c.Iterations = 2 * iterations })
		_, err = scramLogin(t, a, user, secret)
		wantErr(t, "SCRAM before PLAIN", err, sasl.ErrCredentials)
		if _, err := a.VerifyPlain(ctx, peer, "", user, secret); err != nil {
			t.Error(err)
		}
		try(user, secret, nil)

		list, err := a.AppPasswords(ctx, ala.ID)
		if err != nil || len(list) != 2 || list[0].Label != "phone" || list[0].Created.IsZero() {
			t.Errorf("got %+v, %v", list, err)
		}
		wantErr(t, "of another", a.RemoveAppPassword(ctx, none.ID, phone.ID), account.ErrNotFound)
		if err := a.RemoveAppPassword(ctx, ala.ID, phone.ID); err != nil {
			t.Fatal(err)
		}
		try(user, secret, sasl.ErrCredentials)
		try(user, second, nil)
	})
}

// TestUnknownLoginsLookKnown: what SCRAM tells of a login that isn't there is
// stable, also on another node, and of the same shape.
func TestUnknownLoginsLookKnown(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a, b := open(t, d, nil), open(t, d, nil)
		addDomain(t, a, "example.org")
		add(t, a, "ala@example.org", "", "korek-butelka")
		add(t, a, "none@example.org", "", "")
		known, err := a.ScramKeys(ctx, peer, "ala@example.org")
		if err != nil {
			t.Fatal(err)
		}
		for _, login := range []string{"nobody@example.org", "none@example.org", "no such login"} {
			one, err1 := a.ScramKeys(ctx, peer, login)
			two, err2 := b.ScramKeys(ctx, peer, login)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if string(one.Salt) != string(two.Salt) || one.Iterations != two.Iterations {
				t.Errorf("%s: salt or iterations differ between two nodes", login)
			}
			if len(one.Salt) != len(known.Salt) || one.Iterations != known.Iterations {
				t.Errorf("%s: %d octets of salt, %d iterations; known has %d, %d", login, len(one.Salt), one.Iterations, len(known.Salt), known.Iterations)
			}
		}
	})
}

// TestSameWork: a wrong password costs the same derivations whether the login
// exists, has no password, few iterations, an imported hash, or is nobody's.
func TestSameWork(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		work := 0
		a := open(t, d, func(c *account.Config) {
			c.Iterations = 5 * iterations
			c.Hooks.Derived = func(n int) { work += n }
		})
		addDomain(t, a, "example.org")
		add(t, a, "ala@example.org", "", "korek-butelka")
		add(t, a, "none@example.org", "", "")
		apps := add(t, a, "apps@example.org", "", "korek-butelka")
		for range 3 {
			if _, _, err := a.AddAppPassword(ctx, apps.ID, "x"); err != nil {
				t.Fatal(err)
			}
		}
		lines := "few@example.org,,korek-butelka\nold@example.org,,{SSHA}Y1LTx5syOodzYoXeRjBmJt0xUKazaIqh\n"
		if r, err := a.Import(ctx, strings.NewReader(lines), account.ImportOptions{}); err != nil || r.Added != 2 {
			t.Fatal(r, err)
		}
		for password, want := range map[string]int{"wrong": 5 * iterations, "aaaaa-bbbbb-ccccc-ddddd-eeeee": 6 * iterations} {
			for _, user := range []string{"nobody@example.org", "ala@example.org", "none@example.org", "apps@example.org", "few@example.org", "old@example.org"} {
				work = 0
				_, err := a.VerifyPlain(ctx, peer, "", user, password)
				wantErr(t, user, err, sasl.ErrCredentials)
				if work != want {
					t.Errorf("%s, %q: %d iterations, want %d", user, password, work, want)
				}
			}
		}
	})
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		now := &clock{time.Unix(1_700_000_000, 0)}
		a := open(t, d, func(c *account.Config) {
			c.Now = now.Now
			c.Failures = limit.FailuresConfig{Address: limit.Rate{Burst: 3, Every: time.Minute}, Network: limit.Rate{Burst: 5, Every: time.Minute}}
		})
		addDomain(t, a, "example.org")
		add(t, a, "ala@example.org", "", "korek-butelka")
		try := func(addr, password string) error {
			_, err := a.VerifyPlain(ctx, sasl.Peer{Addr: netip.MustParseAddr(addr)}, "", "ala@example.org", password)
			return err
		}
		for range 10 {
			wantErr(t, "right password", try("192.0.2.1", "korek-butelka"), nil)
		}
		for range 3 {
			wantErr(t, "wrong password", try("192.0.2.1", "x"), sasl.ErrCredentials)
		}
		wantErr(t, "throttled, also when right", try("192.0.2.1", "korek-butelka"), sasl.ErrThrottled)
		_, err := a.ScramKeys(ctx, sasl.Peer{Addr: netip.MustParseAddr("192.0.2.1")}, "ala@example.org")
		wantErr(t, "SCRAM", err, sasl.ErrThrottled)
		for range 2 {
			wantErr(t, "neighbour", try("192.0.2.2", "x"), sasl.ErrCredentials)
		}
		for range 3 {
			wantErr(t, "another neighbour", try("192.0.2.4", "x"), sasl.ErrCredentials)
		}
		wantErr(t, "network", try("192.0.2.3", "korek-butelka"), sasl.ErrThrottled)
		wantErr(t, "another network", try("198.51.100.1", "korek-butelka"), nil)
		for range 50 {
			wantErr(t, "loopback is generous", try("127.0.0.1", "x"), sasl.ErrCredentials)
		}
		now.now = now.now.Add(time.Minute)
		wantErr(t, "a minute later", try("192.0.2.1", "korek-butelka"), nil)
	})
}

// TestThrottleSparesAcquaintances: who has logged in from an address before is not
// locked out by what others do there and nearby, by any mechanism.
func TestThrottleSparesAcquaintances(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := dbtest.SQLite(t)
	if err := db.Migrate(ctx, d, components); err != nil {
		t.Fatal(err)
	}
	a := open(t, d, func(c *account.Config) {
		c.Failures = limit.FailuresConfig{Address: limit.Rate{Burst: 3, Every: time.Hour}, Network: limit.Rate{Burst: 4, Every: time.Hour}}
	})
	addDomain(t, a, "example.org")
	add(t, a, "ala@example.org", "", "korek-butelka")
	add(t, a, "ola@example.org", "", "korek-kapsel")
	try := func(addr, login, password string) error {
		_, err := a.VerifyPlain(ctx, sasl.Peer{Addr: netip.MustParseAddr(addr)}, "", login, password)
		return err
	}
	wantErr(t, "first login", try("192.0.2.1", "ala@example.org", "korek-butelka"), nil)
	for range 3 {
		wantErr(t, "a device with an old password", try("192.0.2.1", "ola@example.org", "x"), sasl.ErrCredentials)
	}
	wantErr(t, "the device is throttled", try("192.0.2.1", "ola@example.org", "korek-kapsel"), sasl.ErrThrottled)
	wantErr(t, "an acquaintance is not", try("192.0.2.1", "ALA@example.org", "korek-butelka"), nil)
	_, err := a.ScramKeys(ctx, sasl.Peer{Addr: netip.MustParseAddr("192.0.2.1")}, "ala@example.org")
	wantErr(t, "nor by SCRAM", err, nil)
	wantErr(t, "elsewhere in the network", try("192.0.2.2", "nobody", "x"), sasl.ErrCredentials)
	wantErr(t, "the network is used up", try("192.0.2.3", "ala@example.org", "korek-butelka"), sasl.ErrThrottled)
	wantErr(t, "the acquaintance is spared that too", try("192.0.2.1", "ala@example.org", "korek-butelka"), nil)
	for range 2 {
		wantErr(t, "guesses at the acquaintance", try("192.0.2.1", "ala@example.org", "x"), sasl.ErrCredentials)
	}
	wantErr(t, "are bounded", try("192.0.2.1", "ala@example.org", "x"), sasl.ErrThrottled)
}

// TestPoolIsBounded: logins beyond the queue are refused, not gathered.
func TestPoolIsBounded(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := dbtest.SQLite(t)
	if err := db.Migrate(ctx, d, components); err != nil {
		t.Fatal(err)
	}
	started, hold := make(chan struct{}), make(chan struct{})
	var once sync.Once
	a := open(t, d, func(c *account.Config) {
		c.HashWorkers, c.HashQueue = 1, 1
		c.Hooks.Hashed = func(_, _ time.Duration) {
			once.Do(func() { close(started); <-hold })
		}
	})
	addDomain(t, a, "example.org")
	results := make(chan error, 2)
	login := func() {
		_, err := a.VerifyPlain(ctx, peer, "", "nobody", "x")
		results <- err
	}
	go login()
	<-started // the only worker is held in its hook
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err := a.VerifyPlain(short, peer, "", "nobody", "y")
	wantErr(t, "waits until its context ends", err, sasl.ErrUnavailable)

	wait, stop := context.WithCancel(ctx)
	waiting := make(chan error)
	go func() {
		_, err := a.VerifyPlain(wait, peer, "", "nobody", "z")
		waiting <- err
	}()
	for a.Waiting() == 0 {
		select {
		case err := <-waiting:
			t.Fatalf("did not wait: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	_, err = a.VerifyPlain(ctx, peer, "", "nobody", "v")
	wantErr(t, "full queue", err, sasl.ErrUnavailable)
	stop()
	wantErr(t, "cancelled", <-waiting, sasl.ErrUnavailable)
	close(hold)
	wantErr(t, "the first", <-results, sasl.ErrCredentials)
}

func TestFailureDelay(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := dbtest.SQLite(t)
	if err := db.Migrate(ctx, d, components); err != nil {
		t.Fatal(err)
	}
	const delay = 60 * time.Millisecond
	a := open(t, d, func(c *account.Config) { c.FailureDelay = delay })
	addDomain(t, a, "example.org")
	add(t, a, "ala@example.org", "", "korek-butelka")
	for _, user := range []string{"ala@example.org", "nobody@example.org"} {
		began := time.Now()
		_, err := a.VerifyPlain(ctx, peer, "", user, "wrong")
		wantErr(t, user, err, sasl.ErrCredentials)
		if took := time.Since(began); took < delay {
			t.Errorf("%s: answered after %v", user, took)
		}
	}
}

func TestExternal(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org")
		ala := add(t, a, "ala@example.org", "ala", "")
		ola := add(t, a, "ola@example.org", "", "")
		device := cert(t)
		if err := a.AddCert(ctx, ola.ID, sha256.Sum256(device.Raw)); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "given twice", a.AddCert(ctx, ala.ID, sha256.Sum256(device.Raw)), account.ErrExists)
		both := cert(t, "ala@example.org", "ola@example.org")
		for name, tc := range map[string]struct {
			cert    *x509.Certificate
			authzid string
			want    account.Account
		}{
			"name":            {cert(t, "ALA@example.org"), "", ala},
			"name, authzid":   {cert(t, "ala@example.org"), "ala", ala},
			"wrong authzid":   {cert(t, "ala@example.org"), "ola@example.org", account.Account{}},
			"unknown authzid": {cert(t, "ala@example.org"), "nobody", account.Account{}},
			"two names":       {both, "", account.Account{}},
			"one of two":      {both, "ola@example.org", ola},
			"unknown name":    {cert(t, "x@example.org"), "", account.Account{}},
			"no name":         {cert(t), "", account.Account{}},
			"fingerprint":     {device, "", ola},
			"no certificate":  {nil, "", account.Account{}},
		} {
			id, err := a.VerifyExternal(ctx, peer, tc.authzid, tc.cert)
			var wanted error
			if tc.want.ID == 0 {
				wanted = sasl.ErrCredentials
			}
			wantErr(t, name, err, wanted)
			if id.Account != tc.want.ID {
				t.Errorf("%s: got %+v, want account %d", name, id, tc.want.ID)
			}
		}
		prints, err := a.Certs(ctx, ola.ID)
		if err != nil || len(prints) != 1 || prints[0] != sha256.Sum256(device.Raw) {
			t.Errorf("got %x, %v", prints, err)
		}
		if err := a.RemoveCert(ctx, ola.ID, prints[0]); err != nil {
			t.Fatal(err)
		}
		_, err = a.VerifyExternal(ctx, peer, "", device)
		wantErr(t, "removed fingerprint", err, sasl.ErrCredentials)
	})
}

func cert(t *testing.T, names ...string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, EmailAddresses: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDatabaseGone: a fault of the store is no wrong password and no failure.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := dbtest.SQLite(t)
	a := open(t, d, nil) // no tables
	_, err := a.VerifyPlain(ctx, peer, "", "ala", "x")
	wantErr(t, "PLAIN", err, sasl.ErrUnavailable)
	_, err = a.ScramKeys(ctx, peer, "ala")
	wantErr(t, "SCRAM", err, sasl.ErrUnavailable)
	if errors.Is(err, sasl.ErrCredentials) {
		t.Error("a fault counts as wrong credentials")
	}
}

// TestStands: an identity falls with the account's password, state, or removal.
func TestStands(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org")
		ala := add(t, a, "ala@example.org", "ala", "first-Secret-1")
		login := func(password string) sasl.Identity {
			t.Helper()
			id, err := a.VerifyPlain(ctx, sasl.Peer{}, "", "ala", password)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		stands := func(when string, id sasl.Identity, want bool) {
			t.Helper()
			if got, err := a.Stands(ctx, id); err != nil || got != want {
				t.Errorf("%s: got %v, %v, want %v", when, got, err, want)
			}
		}
		id := login("first-Secret-1")
		stands("after the login", id, true)
		for _, step := range []struct {
			name string
			do   func() error
		}{
			{"after a new password", func() error { return a.SetPassword(ctx, ala.ID, "second-Secret-2") }},
			{"of a disabled account", func() error { return a.Disable(ctx, ala.ID) }},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			stands(step.name, id, false)
		}
		if err := a.Enable(ctx, ala.ID); err != nil {
			t.Fatal(err)
		}
		id = login("second-Secret-2")
		if _, _, err := a.AddAppPassword(ctx, ala.ID, "phone"); err != nil {
			t.Fatal(err)
		}
		stands("beside a new app password", id, true)
		if err := a.Remove(ctx, ala.ID); err != nil {
			t.Fatal(err)
		}
		stands("of a removed account", id, false)
	})
}

// TestPasswordsAtOnce makes an app password while the account's own is changed, and the other way round: SCRAM
// works with both at once.
func TestPasswordsAtOnce(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t)
	if err := db.Migrate(t.Context(), d, components); err != nil {
		t.Fatal(err)
	}
	m := &dbtest.Meanwhile{Database: d}
	a, other := open(t, m, nil), open(t, d, nil)
	addDomain(t, a, "example.org")
	ala, ola := add(t, a, "ala@example.org", "", "korek-butelka"), add(t, a, "ola@example.org", "", "korek-butelka")
	var app string
	addApp := func(a *account.Accounts, acc account.Account) {
		t.Helper()
		var err error
		if _, app, err = a.AddAppPassword(t.Context(), acc.ID, "phone"); err != nil {
			t.Error(err)
		}
	}
	setPassword := func(a *account.Accounts, acc account.Account) {
		t.Helper()
		if err := a.SetPassword(t.Context(), acc.ID, "butelka-korek"); err != nil {
			t.Error(err)
		}
	}
	try := func(acc account.Account) {
		t.Helper()
		for _, password := range []string{"butelka-korek", app} {
			_, err := scramLogin(t, a, acc.Login, password)
			wantErr(t, "SCRAM of "+acc.Login+" with "+password, err, nil)
		}
	}
	m.Arm("UPDATE account SET version", func() { setPassword(other, ala) })
	addApp(a, ala)
	try(ala)
	m.Arm("UPDATE account SET salt", func() { addApp(other, ola) })
	setPassword(a, ola)
	try(ola)
}
