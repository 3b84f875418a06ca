package admin_test

import (
	"bytes"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/sasl"
)

// store is a server's rooms with a desk that backs up to a folder.
type store struct {
	*daemon.Rooms
	t    *testing.T
	desk *admin.Desk
	out  bytes.Buffer
	err  bytes.Buffer
}

func newStore(t *testing.T, copies string, domains ...string) *store {
	t.Helper()
	c := config.Default()
	c.Data = filepath.Join(t.TempDir(), "data")
	c.Backup.To = copies
	o := &store{t: t}
	var err error
	if o.Rooms, err = daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	o.desk = &admin.Desk{Rooms: o.Rooms, Out: &o.out, Err: &o.err}
	for _, d := range domains {
		o.must(o.Accounts.AddDomain(t.Context(), must(address.ParseDomain(d))(t)))
	}
	return o
}

func (o *store) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatalf("%v\n%s", err, &o.err)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// belongings is all that an account has.
type belongings struct {
	Account    account.Account
	Apps       []account.AppPassword
	SendAs     []account.SendAs
	Certs      [][32]byte
	Forward    account.Forward
	Vacation   account.Vacation
	Aliases    []account.Alias
	Postmaster []string // domains
	Settings   preference.Settings
	Entries    []preference.Entry
}

func (o *store) belongings(who string) (b belongings) {
	t, ctx := o.t, o.t.Context()
	t.Helper()
	b.Account = must(o.Accounts.Get(ctx, who))(t)
	id := b.Account.ID
	b.Apps = must(o.Accounts.AppPasswords(ctx, id))(t)
	b.SendAs = must(o.Accounts.SendAs(ctx, id))(t)
	b.Certs = must(o.Accounts.Certs(ctx, id))(t)
	b.Forward = must(o.Accounts.Forward(ctx, id))(t)
	v, err := o.Accounts.Vacation(ctx, id)
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		t.Fatal(err)
	}
	b.Vacation = v
	b.Aliases = must(o.Accounts.Aliases(ctx, address.Domain{}, "", 0))(t)
	for _, d := range must(o.Accounts.Domains(ctx))(t) {
		if d.Postmaster == id {
			b.Postmaster = append(b.Postmaster, d.Name.String())
		}
	}
	b.Settings = must(o.Preferences.Settings(ctx, id))(t)
	b.Entries = must(o.Preferences.List(ctx, id, ""))(t)
	return b
}

// furnish gives ala all that an account can have; it returns an app password of hers.
func (o *store) furnish() string {
	t, ctx := o.t, o.t.Context()
	t.Helper()
	a := o.Accounts
	made := must(a.Add(ctx, account.NewAccount{Address: must(address.Parse("ala@example.org"))(t), Login: "ala", Name: "Ala", Language: "pl", Quota: 7 << 20, Password: "correct horse"}))(t)
	o.must(a.AddAddress(ctx, made.ID, must(address.Parse("alicja@second.example"))(t)))
	_, _ = must2(a.AddAppPassword(ctx, made.ID, "old telephone"))(t)
	_, app := must2(a.AddAppPassword(ctx, made.ID, "telephone"))(t)
	o.must(a.AddSendAs(ctx, made.ID, must(account.ParseSendAs("@far.example"))(t)))
	o.must(a.AddCert(ctx, made.ID, [32]byte{1, 2, 3}))
	o.must(a.SetForward(ctx, made.ID, []address.Address{must(address.Parse("ala@phone.example"))(t), must(address.Parse("ala@work.example"))(t)}, true))
	must(a.SuspendForward(ctx, "ala@example.org", must(address.Parse("ala@work.example"))(t), "550 no"))(t)
	o.must(a.SetVacation(ctx, made.ID, account.Vacation{From: time.UnixMicro(1e15).UTC(), Until: time.UnixMicro(2e15).UTC(), Subject: "away", Text: "till June\n", Days: 3}))
	for source, target := range map[string]string{"info@example.org": "ala@example.org", "@second.example": "alicja@second.example", "both@example.org": "ala@example.org"} {
		alias := must(account.ParseAlias(source))(t)
		alias.Targets = []address.Address{must(address.Parse(target))(t)}
		if source == "both@example.org" {
			alias.Targets = append(alias.Targets, must(address.Parse("else@far.example"))(t))
		}
		o.must(a.AddAlias(ctx, alias))
	}
	o.must(a.SetPostmaster(ctx, must(address.ParseDomain("example.org"))(t), made.ID))
	o.must(o.Preferences.Set(ctx, made.ID, preference.Settings{Level: preference.Strict, Wish: preference.WishTag, Digest: preference.No, Language: "pl", Bulk: preference.Yes}))
	o.must(o.Preferences.Add(ctx, made.ID, preference.Entry{Pattern: "friend@far.example", Allow: true, Note: "a friend"}, preference.Entry{Pattern: ".spam.example"}))
	return app
}

func must2[A, B any](a A, b B, err error) func(*testing.T) (A, B) {
	return func(t *testing.T) (A, B) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a, b
	}
}

// logsIn tries a password.
func (o *store) logsIn(name, password string, want bool) {
	o.t.Helper()
	_, err := o.Accounts.VerifyPlain(o.t.Context(), sasl.Peer{Addr: netip.MustParseAddr("192.0.2.7"), Protocol: "pop3"}, "", name, password)
	if (err == nil) != want {
		o.t.Errorf("login of %s with %q: %v, want it to work: %v", name, password, err, want)
	}
}

// TestAccountComesBack removes an account that has everything, and restores it into the same
// store, twice, and into another one: all is there again, under another number.
func TestAccountComesBack(t *testing.T) {
	t.Parallel()
	copies := filepath.Join(t.TempDir(), "copies")
	o := newStore(t, copies, "example.org", "second.example")
	app := o.furnish()
	want := o.belongings("ala")
	o.must(o.desk.BackupCreate(t.Context(), admin.BackupPlace{}, true, "test"))
	restore := admin.BackupSelection{Selection: holdings.Selection{Account: "ALA@example.org"}, Make: true}
	same := func(o *store) {
		t.Helper()
		got := o.belongings("ala")
		if got.Account.ID == want.Account.ID {
			t.Error("the number of the removed account is used again")
		}
		diff := cmp.Diff(want, got, cmpopts.IgnoreFields(account.Account{}, "ID", "Version", "Created"), cmpopts.IgnoreFields(account.AppPassword{}, "ID"), cmpopts.IgnoreFields(account.Alias{}, "Created"),
			cmp.Comparer(func(a, b address.Address) bool { return a.String() == b.String() }),
			cmp.Comparer(func(a, b address.Domain) bool { return a.String() == b.String() }))
		if diff != "" {
			t.Errorf("restored (-want +got):\n%s\n%s", diff, &o.err)
		}
		o.logsIn("ala", "correct horse", true)
		o.logsIn("alicja@second.example", app, true)
		o.logsIn("ala", strings.ToUpper(app[:4])+app[4:]+"x", false)
		o.logsIn("ala", "correct house", false)
	}
	for range 2 {
		o.must(o.Accounts.Remove(t.Context(), must(o.Accounts.Get(t.Context(), "ala"))(t).ID))
		o.must(o.desk.BackupRestore(t.Context(), admin.BackupPlace{}, restore))
		same(o)
		o.must(o.desk.BackupCreate(t.Context(), admin.BackupPlace{}, true, "test")) // the next one comes from a restored account
	}
	other := newStore(t, copies, "example.org", "second.example")
	padding := must(other.Accounts.Add(t.Context(), account.NewAccount{Address: must(address.Parse("ola@example.org"))(t), Password: "another horse"}))(t)
	if padding.ID == want.Account.ID {
		must(other.Accounts.Add(t.Context(), account.NewAccount{Address: must(address.Parse("ela@example.org"))(t), Password: "another horse"}))(t)
	}
	other.must(other.desk.BackupRestore(t.Context(), admin.BackupPlace{}, restore))
	want.Account.ID = 0
	for i, alias := range want.Aliases { // what else an alias leads to is not the account's
		want.Aliases[i].Targets = alias.Targets[:1]
	}
	same(other)
	fresh := must2(other.Accounts.AddAppPassword(t.Context(), must(other.Accounts.Get(t.Context(), "ala"))(t).ID, "new"))
	_, second := fresh(t)
	other.logsIn("ala", second, true)
	other.logsIn("ala", app, true)
}

// TestAccountComesBackInPart restores an account into a store where some of what was its own is
// somebody else's by now.
func TestAccountComesBackInPart(t *testing.T) {
	t.Parallel()
	copies := filepath.Join(t.TempDir(), "copies")
	o := newStore(t, copies, "example.org", "second.example")
	o.furnish()
	old := must(o.Accounts.Get(t.Context(), "ala"))(t)
	o.must(o.Accounts.Disable(t.Context(), old.ID))
	o.must(o.desk.BackupCreate(t.Context(), admin.BackupPlace{}, true, "test"))
	other := newStore(t, copies, "example.org")
	info := must(other.Accounts.Add(t.Context(), account.NewAccount{Address: must(address.Parse("info@example.org"))(t), Password: "another horse"}))(t)
	other.must(other.Accounts.AddCert(t.Context(), info.ID, [32]byte{1, 2, 3}))
	other.must(other.desk.BackupRestore(t.Context(), admin.BackupPlace{}, admin.BackupSelection{Selection: holdings.Selection{Account: "ala"}, Make: true}))
	for _, text := range []string{"alicja@second.example", "alias info@example.org", "alias @second.example", "certificate 0102", "disabled"} {
		if !strings.Contains(other.err.String(), text) {
			t.Errorf("%q is not named in\n%s", text, &other.err)
		}
	}
	got := other.belongings("ala")
	if got.Account.State != account.Disabled || len(got.Forward.Targets) != 2 || len(got.Apps) != 2 || len(got.Aliases) != 1 || len(got.Entries) != 2 {
		t.Errorf("restored: %+v", got)
	}
	other.logsIn("ala", "correct horse", false)
	if _, err := newStore(t, copies).Accounts.Get(t.Context(), "ala"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	none := newStore(t, copies)
	err := none.desk.BackupRestore(t.Context(), admin.BackupPlace{}, admin.BackupSelection{Selection: holdings.Selection{Account: "ala"}, Make: true})
	if !errors.Is(err, account.ErrNotLocal) {
		t.Errorf("without the domain: %v", err)
	}
}
