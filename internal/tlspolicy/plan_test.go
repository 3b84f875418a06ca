package tlspolicy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/tlspolicy"
)

var anySum = strings.Repeat("ab", 32)

// planZone has domains of every sort. Those under signed.example have DNSSEC.
var planZone = strings.ReplaceAll(`
$ORIGIN plain.example.
@          MX 5 mx
mx         A 192.0.2.1
sts        MX 5 mx
_mta-sts.sts TXT "v=STSv1; id=1;"
stsother   MX 5 mx
_mta-sts.stsother TXT "v=STSv1; id=1;"
test       MX 5 mx
_mta-sts.test TXT "v=STSv1; id=1;"
testother  MX 5 mx
_mta-sts.testother TXT "v=STSv1; id=1;"
gone       MX 5 mx
_mta-sts.gone TXT "v=STSv1; id=1;"
over       MX 5 mx
_mta-sts.over TXT "v=STSv1; id=1;"
_25._tcp.mx TLSA 3 1 1 SUM

$ORIGIN signed.example.
@          MX 5 mx
mx         A 192.0.2.2
_25._tcp.mx TLSA 3 1 1 SUM
alias      CNAME signed.example.
noend      MX 5 nomx
nomx       A 192.0.2.3
unusable   MX 5 umx
umx        A 192.0.2.4
_25._tcp.umx TLSA 0 1 1 SUM
bogus      MX 5 bmx
bmx        A 192.0.2.5
ests       MX 5 mx
_mta-sts.ests TXT "v=STSv1; id=1;"
usts       MX 5 umx
_mta-sts.usts TXT "v=STSv1; id=1;"
utest      MX 5 umx
_mta-sts.utest TXT "v=STSv1; id=1;"
hidden     MX 5 hmx
hmx        CNAME mx
!secure signed.example
!servfail _25._tcp.bmx.signed.example
`, "SUM", anySum)

func TestHost(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{tlspolicy.Schema}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, domain string
		override     tlspolicy.Override
		want         string
	}{
		{name: "nothing published", domain: "plain.example", want: "opportunistic (default) sni=mx.plain.example names=mx.plain.example tlsa=0 testing=false trusted=false"},
		{name: "signed, no TLSA", domain: "noend.signed.example", want: "opportunistic (default) sni=nomx.signed.example names=nomx.signed.example tlsa=0 testing=false trusted=true"},
		{name: "DANE", domain: "signed.example", want: "dane (dane) sni=mx.signed.example names=mx.signed.example,signed.example tlsa=1 testing=false trusted=true"},
		{name: "DANE of an alias domain", domain: "alias.signed.example", want: "dane (dane) sni=mx.signed.example names=mx.signed.example,alias.signed.example,signed.example tlsa=1 testing=false trusted=true"},
		{name: "DANE of an alias host", domain: "hidden.signed.example", want: "dane (dane) sni=mx.signed.example names=mx.signed.example,hmx.signed.example,hidden.signed.example tlsa=1 testing=false trusted=true"},
		{name: "unusable TLSA", domain: "unusable.signed.example", want: "encrypt (dane) sni=umx.signed.example names=umx.signed.example tlsa=0 testing=false trusted=true"},
		{name: "bogus TLSA", domain: "bogus.signed.example", want: "left out: dnssec-invalid"},
		{name: "MTA-STS", domain: "sts.plain.example", want: "sts (mta-sts) sni=mx.plain.example names=mx.plain.example tlsa=0 testing=false trusted=true"},
		{name: "MTA-STS for another host", domain: "stsother.plain.example", want: "left out: validation-failure"},
		{name: "MTA-STS testing", domain: "test.plain.example", want: "opportunistic (mta-sts testing) sni=mx.plain.example names=mx.plain.example tlsa=0 testing=true trusted=true"},
		{name: "MTA-STS testing for another host", domain: "testother.plain.example", want: "opportunistic (mta-sts testing) sni=mx.plain.example names=mx.plain.example tlsa=0 testing=true trusted=false"},
		{name: "MTA-STS that can't be fetched", domain: "gone.plain.example", want: "opportunistic (default) sni=mx.plain.example names=mx.plain.example tlsa=0 testing=false trusted=false"},
		{name: "DANE goes before MTA-STS", domain: "ests.signed.example", want: "dane (dane) sni=mx.signed.example names=mx.signed.example,ests.signed.example tlsa=1 testing=false trusted=true"},
		{name: "unusable TLSA and MTA-STS", domain: "usts.signed.example", want: "sts (mta-sts) sni=umx.signed.example names=umx.signed.example tlsa=0 testing=false trusted=true"},
		{name: "unusable TLSA and testing", domain: "utest.signed.example", want: "encrypt (default) sni=umx.signed.example names=umx.signed.example tlsa=0 testing=true trusted=true"},
		{name: "none", domain: "signed.example", override: tlspolicy.Override{Level: tlspolicy.None}, want: "none (configuration) sni=mx.signed.example names=mx.signed.example tlsa=0 testing=false trusted=true"},
		{name: "opportunistic in place of MTA-STS", domain: "sts.plain.example", override: tlspolicy.Override{Level: tlspolicy.Opportunistic}, want: "opportunistic (configuration) sni=mx.plain.example names=mx.plain.example tlsa=0 testing=false trusted=false"},
		{name: "encrypt", domain: "plain.example", override: tlspolicy.Override{Level: tlspolicy.Encrypt}, want: "encrypt (configuration) sni=mx.plain.example names=mx.plain.example tlsa=0 testing=false trusted=false"},
		{name: "encrypt and MTA-STS", domain: "sts.plain.example", override: tlspolicy.Override{Level: tlspolicy.Encrypt}, want: "sts (mta-sts) sni=mx.plain.example names=mx.plain.example tlsa=0 testing=false trusted=true"},
		{name: "verify", domain: "plain.example", override: tlspolicy.Override{Level: tlspolicy.Verify}, want: "verify (configuration) sni=mx.plain.example names=mx.plain.example tlsa=0 testing=false trusted=false"},
		{name: "verify names", domain: "plain.example", override: tlspolicy.Override{Level: tlspolicy.Verify, Names: []string{".plain.example"}}, want: "verify (configuration) sni=mx.plain.example names=.plain.example tlsa=0 testing=false trusted=true"},
		{name: "dane demanded", domain: "signed.example", override: tlspolicy.Override{Level: tlspolicy.DANE}, want: "dane (dane) sni=mx.signed.example names=mx.signed.example,signed.example tlsa=1 testing=false trusted=true"},
		{name: "dane demanded in vain", domain: "plain.example", override: tlspolicy.Override{Level: tlspolicy.DANE}, want: "left out: dane-required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := open(t, d, planZone, func(cfg *tlspolicy.Config) {
				if c.override.Level != tlspolicy.None || strings.Contains(c.want, "configuration") {
					cfg.Overrides = map[string]tlspolicy.Override{"." + c.domain[strings.IndexByte(c.domain, '.')+1:]: {Level: tlspolicy.Encrypt}, c.domain: c.override}
				}
			})
			for name, p := range map[string]mtasts.Policy{
				"sts.plain.example": policy(mtasts.Enforce, time.Hour, "*.plain.example"), "stsother.plain.example": policy(mtasts.Enforce, time.Hour, "other.example"),
				"test.plain.example": policy(mtasts.Testing, time.Hour, "mx.plain.example"), "testother.plain.example": policy(mtasts.Testing, time.Hour, "other.example"),
				"ests.signed.example": policy(mtasts.Enforce, time.Hour, "other.example"), "usts.signed.example": policy(mtasts.Enforce, time.Hour, "*.signed.example"),
				"utest.signed.example": policy(mtasts.Testing, time.Hour, "*.signed.example"),
			} {
				w.fetch.set(name, p)
			}
			p, route := w.plan(c.domain)
			if diff := cmp.Diff(c.want, show(p.Host(t.Context(), route.Hosts[0]))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{tlspolicy.Schema}); err != nil {
		t.Fatal(err)
	}
	w := open(t, d, "a.b.example. A 192.0.2.1\nb.example. A 192.0.2.1\nc.b.example. A 192.0.2.1\nother.example. A 192.0.2.1\nelse.test. A 192.0.2.1\n", func(c *tlspolicy.Config) {
		c.Overrides = map[string]tlspolicy.Override{".example": {Level: tlspolicy.Encrypt}, ".B.example": {Level: tlspolicy.Verify}, "a.b.example": {Level: tlspolicy.None}}
		c.Default = tlspolicy.Verify
	})
	for name, want := range map[string]tlspolicy.Level{"a.b.example": tlspolicy.None, "c.b.example": tlspolicy.Verify, "b.example": tlspolicy.Encrypt, "other.example": tlspolicy.Encrypt, "else.test": tlspolicy.Verify} {
		if got := w.require(name).Level; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	for _, bad := range []map[string]tlspolicy.Override{{"a b": {}}, {"example.org": {Level: tlspolicy.STS}}, {".": {}}} {
		if _, err := tlspolicy.New(tlspolicy.Config{DB: d, Resolver: w, Overrides: bad}); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	for s, ok := range map[string]bool{"verify": true, "dane": true, "": false, "Verify": false} {
		if l, err := tlspolicy.ParseLevel(s); (err == nil) != ok || ok && l.String() != s {
			t.Errorf("%q: got %v, %v", s, l, err)
		}
	}
}

// TestLiteral has a host without a name.
func TestLiteral(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{tlspolicy.Schema}); err != nil {
		t.Fatal(err)
	}
	w := open(t, d, "", nil)
	r := w.require("[192.0.2.1]")
	if got := show(r, nil); got != "opportunistic (default) sni= names= tlsa=0 testing=false trusted=false" {
		t.Error(got)
	}
	v := r.Check(state(w.ca.Leaf("mx.example")), nil)
	if v.Err != nil || v.Shown != tlspolicy.Encrypt {
		t.Errorf("got %+v", v)
	}
	w.store.Note(t.Context(), tlspolicy.Result{Verdict: v})
	if err := w.store.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}
