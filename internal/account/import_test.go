package account_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/sasl"
)

// dovecotHashes were printed by "doveadm pw" of Dovecot 2.3.19 and by crypt(3)
// of libxcrypt; all of them are of the password foreignPassword.
const foreignPassword = "zażółć gęślą 1"

var dovecotHashes = []string{
	"{SSHA}Y1LTx5syOodzYoXeRjBmJt0xUKazaIqh",
	"{SSHA256}F+4hWNcTKthe0Dt9w/v+GfLEViL//Y6QplXtU4g+fH+JY60g",
	"{SSHA512}6Jjt4z2+96js1UwFcGcwtZiIWAOkWarlMVwbtG4YG0Yku+/YzbAcAWIJR+NdHMYahQVulUg0fWp45wgzVgubfliDsrE=",
	"{SMD5}wXMLQOQ3x+gifaEYL+B/m41SBqQ=",
	"{SHA}NnhnrQWozLTyMZeOgdmc9XeRTPw=",
	"{SHA256}iM4bQ8hzj82ofOQYkBlXNn5tpnK/80LQvz06ZkMPXxk=",
	"{SHA512}AgG7trFmOqJw/AXFS4ODnkutCtdVFzYtmFePyvrLsXEoySG0H4o3YOE/qlFzBshhpgfbBz9Nal0kfNOI2iNi9Q==",
	"{LDAP-MD5}FkR6bl/HaGmP8bhH+Sl+3w==",
	"{PLAIN-MD5}16447a6e5fc768698ff1b847f9297edf",
	"{PBKDF2}$1$h5Ifc2y9SF5ZLaKz$5000$6df6782b5e25443b4b8d773b800e458eaaa6399c",
	"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$dAcOCKSGlenkvGzBqKiSAQ$1TBP1E/axFJv4L21rHWaU7MFy0g+YMakpOngC9n99Ws",
	"{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$2F8jYMtTmMoqyYH2nMI7sw$JNCi5/DUiySYoa/fTl3eMMjg3g/5OIwbSz4rnt7lk/o",
	"{BLF-CRYPT}$2y$05$y53IJpmpRYDLBXgtQLvkueb3dSwkfAeA1lLZixFmBLSlrgOPd9ECe",
	"{SCRAM-SHA-256}4096,h7m1QacOTMJHzxpNn85YEA==,Fv6tRAojt6VCCEgYwsnrPj14Zw+Jy3PW6VissGUGZjg=,GCvEVv2SYJi085JungbdaY98kqPin5fpJK5blXAy2To=",
	"{SHA512-CRYPT}$6$DYgUbkDmg4oKDtlM$f8YTQsk3yjN7fw8gVV3yq5Rw49VwRwdELDy0.PVim3PmudNOEDs8oQWh7qWKjob/eaG/o9rbdCS1PzYfzUo7R1",
	"{SHA256-CRYPT}$5$RzmhuBa3fjYRxrvI$J51QYiwQlREx1B6LR7Dw1GM.9Ffro25WRQloC2CjEv8",
	"{MD5-CRYPT}$1$loSeoqBq$QYvBGLlLLEfT.Q0sy.O470",
	"{CRYPT}$2y$05$kFry..6xPTawRHrTiy/d0uONKW9F8uT3l/h1LHkcUz/Z/u1Kiu2vC",
	"{SSHA512.HEX}ca49b79d6807141da60ac28de6db05513a8317988d1057a724d8e2832c908327d72e55b4dd19967df2c6dad64b693e6c721614adc33cb7be04d6e259ede9786962f8e7e4",
	"{ssha.hex}0615e132d2dc490d389b1cf135689931d4e92d40f40e8fd2",
	"{SHA256.HEX}88ce1b43c8738fcda87ce418901957367e6da672bff342d0bf3d3a66430f5f19",
	"{PLAIN}zażółć gęślą 1",
	"{PLAIN.b64}emHFvMOzxYLEhyBnxJnFm2zEhSAx",
}

// TestImportDovecotHashes: each hash lets its owner in, once as it came and then
// converted, also by SCRAM.
func TestImportDovecotHashes(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		for _, format := range []string{"csv", "dovecot"} {
			addDomain(t, a, format+".example")
			var lines strings.Builder
			for i, h := range dovecotHashes {
				if format == "csv" {
					fmt.Fprintf(&lines, "u%d@csv.example,,%s,1G,Name %d\r\n", i, h, i)
				} else {
					fmt.Fprintf(&lines, "u%d@dovecot.example:%s:1000:1000:Name %d,,,:/home/x:/bin/sh:userdb_quota_rule=*:storage=1G\n", i, h, i)
				}
			}
			got, err := a.Import(ctx, strings.NewReader(lines.String()), account.ImportOptions{Report: func(line int, err error) { t.Errorf("line %d: %v", line, err) }})
			if err != nil || got.Added != len(dovecotHashes) {
				t.Fatalf("%s: got %+v, %v", format, got, err)
			}
		}
		before, err := a.Foreign(ctx)
		if err != nil || before != int64(2*(len(dovecotHashes)-3)) {
			t.Errorf("%d imported hashes wait, %v", before, err)
		}
		for i, h := range dovecotHashes {
			user := fmt.Sprintf("u%d@%s.example", i, []string{"csv", "dovecot"}[i%2])
			acc, err := a.Get(ctx, user)
			if err != nil || acc.Quota != 1<<30 || acc.Name != fmt.Sprintf("Name %d", i) {
				t.Errorf("%s: got %+v, %v", user, acc, err)
			}
			_, err = a.VerifyPlain(ctx, peer, "", user, foreignPassword+"x")
			wantErr(t, h+": wrong password", err, sasl.ErrCredentials)
			_, err = a.VerifyPlain(ctx, peer, "", user, foreignPassword)
			wantErr(t, h, err, nil)
			_, err = scramLogin(t, a, user, foreignPassword)
			wantErr(t, h+": SCRAM", err, nil)
			b := open(t, d, nil) // nothing remembered
			_, err = b.VerifyPlain(ctx, peer, "", user, foreignPassword)
			wantErr(t, h+": converted", err, nil)
			if acc, err = a.Get(ctx, user); err != nil || acc.Foreign {
				t.Errorf("%s: still an imported hash: %v", h, err)
			}
		}
	})
}

// TestImportCrypt lets this machine's crypt(3) make the hashes.
func TestImportCrypt(t *testing.T) {
	t.Parallel()
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("no perl here, whose crypt() makes the hashes")
	}
	ctx := context.Background()
	d := dbtest.SQLite(t)
	if err := db.Migrate(ctx, d, components); err != nil {
		t.Fatal(err)
	}
	a := open(t, d, nil)
	addDomain(t, a, "example.org")
	for i, setting := range []string{"$y$j9T$abcdefghijklmnop$", "$6$rounds=10000$saltsalt$", "$6$saltsalt$", "$5$rounds=1000$s$", "$2b$05$abcdefghijklmnopqrstuu", "$2a$04$abcdefghijklmnopqrstuu", "$1$saltsalt$"} {
		out, err := exec.Command(perl, "-e", "print crypt($ARGV[0], $ARGV[1])", "password 123", setting).Output()
		if err != nil || !strings.HasPrefix(string(out), setting[:3]) {
			t.Logf("crypt(3) here does not know %s: %v", setting, err)
			continue
		}
		user := fmt.Sprintf("u%d@example.org", i)
		got, err := a.Import(ctx, strings.NewReader(user+",,"+string(out)+"\n"), account.ImportOptions{Report: func(_ int, err error) { t.Error(err) }})
		if err != nil || got.Added != 1 {
			t.Errorf("%s: %+v, %v", out, got, err)
			continue
		}
		_, err = a.VerifyPlain(ctx, peer, "", user, "password 124")
		wantErr(t, setting+" wrong", err, sasl.ErrCredentials)
		_, err = a.VerifyPlain(ctx, peer, "", user, "password 123")
		wantErr(t, setting, err, nil)
	}
}

func TestImportLines(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org")
		add(t, a, "there@example.org", "taken", "")
		addAlias(t, a, "alias@example.org", "there@example.org")
		lines := []string{
			"\uFEFFaddress,login,password,quota,name", // 1
			"# comment",     // 2
			"",              // 3
			"a@example.org", // 4
			`"b@example.org","b.login","pa""ss,word","10 M"`,   // 5: bad quota
			`b@example.org,b.login,"pa""ss,word",10M,"Be, Ce"`, // 6
			"there@example.org,,x",                             // 7: existing
			"alias@example.org,,x",                             // 8: an alias
			"c@example.org,taken,x",                            // 9: login taken
			"d@remote.example,,x",                              // 10: not our domain
			"e@example.org,,$2y$31$kFry..6xPTawRHrTiy/d0uONKW9F8uT3l/h1LHkcUz/Z/u1Kiu2vC",                                               // 11: 4 hours of bcrypt
			"f@example.org,,$argon2id$v=19$m=999999999,t=3,p=1$dAcOCKSGlenkvGzBqKiSAQ$1TBP1E/axFJv4L21rHWaU7MFy0g+YMakpOngC9n99Ws,5M,F", // 12: 1 TB
			"g@example.org,,$argon2id$v=19$m=1024,t=1,p=1$dAcOCKSGlenkvGzBqKiSAQ$1TBP1E/axFJv4L21rHWaU7MFy0g+YMakpOngC9n99Ws,5M,G",      // 13
			"h@example.org,,{DES}abJnggxhB/yWI", // 14
			"i@example.org,,$6$rounds=999999999$saltsalt$ExVm7OuMWck3vCT1aivAjsx5YI43IlRi1xPDQhudFyTkiwMNXsG7P5mTlbjb1GeaEshudhJfVbQMZ6VC.FTyM0", // 15
			"j@example.org,a b c,x",                      // 16: bad login
			"k@example.org,,x,99999999T",                 // 17
			"l@example.org,,\xff\xfe",                    // 18
			strings.Repeat("x", 10_000) + "@example.org", // 19
			"not an address,,x",                          // 20
			`m@example.org,"unclosed`,                    // 21
			"n@example.org,,x,1,2,3",                     // 22
			"a@example.org,,again",                       // 23: existing, of this import
			"o@example.org,,$unknown$hash",               // 24
			"last@example.org,,secret",                   // 25, without a line end
		}
		var bad []int
		var progress account.ImportResult
		got, err := a.Import(ctx, iotest.OneByteReader(strings.NewReader(strings.Join(lines, "\n"))), account.ImportOptions{
			Quota:    7,
			Report:   func(line int, err error) { bad = append(bad, line); t.Logf("line %d: %v", line, err) },
			Progress: func(r account.ImportResult) { progress = r },
		})
		want := account.ImportResult{Lines: 22, Added: 4, Existing: 2, Bad: 16}
		if err != nil || got != want || progress != want {
			t.Errorf("got %+v (progress %+v), %v; want %+v", got, progress, err, want)
		}
		if diff := cmp.Diff([]int{5, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24}, bad); diff != "" {
			t.Errorf("bad lines (-want +got):\n%s", diff)
		}
		b, err := a.Get(ctx, "b.login")
		if err != nil || b.Name != "Be, Ce" || b.Quota != 10<<20 {
			t.Errorf("got %+v, %v", b, err)
		}
		if _, err := a.VerifyPlain(ctx, peer, "", "b.login", `pa"ss,word`); err != nil {
			t.Error(err)
		}
		if _, err := scramLogin(t, a, "last@example.org", "secret"); err != nil {
			t.Errorf("SCRAM before PLAIN after an import in the clear: %v", err)
		}
		if g, err := a.Get(ctx, "g@example.org"); err != nil || g.Name != "G" || !g.Foreign {
			t.Errorf("got %+v, %v", g, err)
		}
		if x, err := a.Get(ctx, "a@example.org"); err != nil || x.Quota != 7 || x.HasPassword {
			t.Errorf("got %+v, %v", x, err)
		}
	})
}

// TestImportMany crosses chunks, runs beside another import of the same
// accounts, and again after it: each account is there once.
func TestImportMany(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		const n = 1000
		var lines strings.Builder
		for i := range n {
			fmt.Fprintf(&lines, "u%d:{SSHA}Y1LTx5syOodzYoXeRjBmJt0xUKazaIqh::::::\n", i)
		}
		o := account.ImportOptions{Domain: mustDomain(t, "many.example"), AddDomains: true}
		results := make(chan account.ImportResult, 2)
		for range 2 {
			a := open(t, d, nil)
			go func() {
				r, err := a.Import(ctx, strings.NewReader(lines.String()), o)
				if err != nil {
					t.Error(err)
				}
				results <- r
			}()
		}
		one, two := <-results, <-results
		a := open(t, d, nil)
		domains, err := a.Domains(ctx)
		if err != nil || len(domains) != 1 || domains[0].Accounts != n {
			t.Errorf("got %+v, %v; want %d accounts", domains, err, n)
		}
		if one.Added+two.Added != n {
			t.Errorf("added %d and %d, want %d together", one.Added, two.Added, n)
		}
		again, err := a.Import(ctx, strings.NewReader(lines.String()), o)
		if err != nil || again.Existing != n || again.Bad != 0 {
			t.Errorf("again: %+v, %v", again, err)
		}
		if got := route(t, a, "u500@many.example"); got != "address: u500" {
			t.Errorf("got %q", got)
		}
	})
}

func TestImportFaults(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	ctx, cancel := context.WithCancel(context.Background())
	if err := db.Migrate(ctx, d, components); err != nil {
		t.Fatal(err)
	}
	a := open(t, d, nil)
	broken := errors.New("cable cut")
	_, err := a.Import(ctx, io.MultiReader(strings.NewReader("a@x.example,,x\n"), iotest.ErrReader(broken)), account.ImportOptions{AddDomains: true})
	wantErr(t, "reader", err, broken)
	cancel()
	_, err = a.Import(ctx, strings.NewReader("a@x.example,,x\n"), account.ImportOptions{AddDomains: true})
	wantErr(t, "cancelled", err, context.Canceled)
}

func FuzzImport(f *testing.F) {
	for _, h := range dovecotHashes {
		f.Add("a@x.example,," + h + ",1G,name\nb:" + h + ":::::")
	}
	f.Add("a@x.example,b,\"c\"\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		account.ParseImportText(text)
	})
}

// FuzzForeign: what the check of an import admits, the check of a login reads,
// and no bad row costs more than its bound.
func FuzzForeign(f *testing.F) {
	for _, h := range dovecotHashes {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, field string) {
		hash, ok := account.ParseForeign(field)
		if !ok || hash == "" {
			return
		}
		again, ok := account.ParseForeign(hash)
		if !ok || again != hash {
			t.Fatalf("%q is stored as %q, which reads as %q, %v", field, hash, again, ok)
		}
		if strings.Contains(hash, "$argon") || strings.Contains(hash, "$y$") || strings.Contains(hash, "rounds=") || strings.Contains(hash, "$2") || strings.Contains(hash, "PBKDF2") {
			return // dear to check; the unit tests do
		}
		if _, err := account.CheckForeign(hash, "x"); err != nil {
			t.Fatalf("%q: %v", hash, err)
		}
	})
}
