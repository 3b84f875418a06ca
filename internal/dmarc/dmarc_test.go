package dmarc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/resolver"
)

// zone holds what RFC 9989's examples and the cases below ask for.
const zone = `
_dmarc.example.com.               TXT "v=DMARC1; p=reject; sp=quarantine; np=none"
example.com.                      A   192.0.2.1
signing.example.com.              A   192.0.2.1
real.example.com.                 A   192.0.2.1
_dmarc.signing.example.com.       TXT "v=DMARC1; p=none"
_dmarc.bank.example.              TXT "v=DMARC1; p=reject; psd=y"
_dmarc.giant.bank.example.        TXT "v=DMARC1; p=none"
_dmarc.org.example.               TXT "v=DMARC1; p=quarantine"
_dmarc.dept.org.example.          TXT "v=DMARC1; p=reject; psd=n"
_dmarc.strict.example.            TXT "v=DMARC1; p=reject; adkim=s; aspf=s"
_dmarc.testing.example.           TXT "v=DMARC1; p=reject; t=y"
_dmarc.trying.example.            TXT "v=DMARC1; p=quarantine; t=y; np=reject"
_dmarc.many.org.example.          TXT "v=DMARC1; p=none"
_dmarc.many.org.example.          TXT "v=DMARC1; p=reject"
_dmarc.many.example.              TXT "v=DMARC1; p=none"
_dmarc.many.example.              TXT "v=DMARC1; p=reject"
_dmarc.broken.example.            TXT "v=DMARC1; p=drop"
_dmarc.some.example.              TXT "v=DMARC1; p=quarantine; pct=50"
_dmarc.most.example.              TXT "v=DMARC1; p=reject; pct=51"
_dmarc.alias.example.             CNAME _dmarc.strict.example.
_dmarc.loop.example.              CNAME _dmarc.pool.example.
_dmarc.pool.example.              CNAME _dmarc.loop.example.
!servfail _dmarc.dead.example
_dmarc.half.example.              TXT "v=DMARC1; p=reject"
!servfail _dmarc.down.half.example
_dmarc.gone.example.              TXT "v=DMARC1; p=none; np=reject"
!servfail sub.gone.example
`

// say writes a result in short.
func say(r dmarc.Result) string {
	out := []string{r.Status.String()}
	if r.Record != nil {
		out = append(out, r.PolicyDomain.String(), r.Policy.String(), r.Applied.String())
	}
	for _, f := range []struct {
		on   bool
		name string
	}{{r.AlignedSPF, "spf"}, {r.AlignedDKIM, "dkim"}, {r.Subdomain, "sub"}, {r.NonExistent, "nonexistent"}, {r.Testing, "testing"}, {r.SampledOut, "sampled"}, {r.Err != nil, "err"}} {
		if f.on {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, " ")
}

// proofs reads "spf:example.com dkim:example.net !dkim:example.org"; ! did not pass, of ? nobody knows.
func proofs(t *testing.T, s string) (p dmarc.Proofs) {
	t.Helper()
	for f := range strings.FieldsSeq(s) {
		f, failed := strings.CutPrefix(f, "!")
		f, temp := strings.CutPrefix(f, "?")
		kind, name, _ := strings.Cut(f, ":")
		proof := dmarc.Proof{Domain: domain(t, name), Pass: !failed && !temp, TempError: temp}
		if kind == "spf" {
			p.SPF = append(p.SPF, proof)
		} else {
			p.DKIM = append(p.DKIM, proof)
		}
	}
	return p
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	deep := "a.b.c.d.e.f.g.h.i.j.k.example.com"
	for _, c := range []struct{ name, from, proofs, want string }{
		{"RFC 9989 B.4.1", "example.com", "spf:example.com dkim:signing.example.com", "pass example.com reject none spf dkim"},
		{"RFC 9989 B.4.1, relaxed alone", "example.com", "dkim:signing.example.com", "pass example.com reject none dkim"},
		{"RFC 9989 B.4.2", deep, "spf:example.com dkim:signing.example.com", "pass example.com quarantine none spf dkim sub"},
		{"RFC 9989 B.4.3, SPF", "giant.bank.example", "spf:mail.giant.bank.example dkim:mail.mega.bank.example", "pass giant.bank.example none none spf"},
		{"RFC 9989 B.4.3, DKIM", "giant.bank.example", "dkim:mail.mega.bank.example", "fail giant.bank.example none none"},
		{"a suffix's policy", "mega.bank.example", "", "fail bank.example reject reject sub"},
		{"a suffix's policy, aligned", "mega.bank.example", "dkim:x.mega.bank.example", "pass bank.example reject none dkim sub"},
		{"psd=n parts", "dept.org.example", "dkim:org.example spf:other.org.example", "fail dept.org.example reject reject"},
		{"psd=n joins", "a.dept.org.example", "dkim:b.dept.org.example", "pass dept.org.example reject none dkim sub"},
		{"sp", "real.example.com", "", "fail example.com quarantine quarantine sub"},
		{"sp of a name with a record below", "example.com", "", "fail example.com reject reject"},
		{"np", "unreal.example.com", "", "fail example.com none none sub nonexistent"},
		{"np fails to be known", "sub.gone.example", "", "temperror gone.example none none sub err"},
		{"own record of a subdomain", "signing.example.com", "", "fail signing.example.com none none"},
		{"proof that failed", "example.com", "!spf:example.com !dkim:example.com", "fail example.com reject reject"},
		{"proof unknown", "example.com", "?dkim:signing.example.com spf:example.net", "temperror example.com reject none err"},
		{"proof unknown, another known", "example.com", "?dkim:example.com spf:example.com", "pass example.com reject none spf"},
		{"proof unknown, of a stranger", "example.com", "?dkim:example.net", "fail example.com reject reject"},
		{"stranger", "example.com", "spf:example.net dkim:com", "fail example.com reject reject"},
		{"strict", "strict.example", "spf:a.strict.example dkim:a.strict.example", "fail strict.example reject reject"},
		{"strict, same", "strict.example", "dkim:a.strict.example dkim:strict.example", "pass strict.example reject none dkim"},
		{"testing reject", "testing.example", "", "fail testing.example reject quarantine testing"},
		{"testing quarantine", "trying.example", "", "fail trying.example quarantine none testing"},
		{"testing np", "x.trying.example", "", "fail trying.example reject quarantine sub nonexistent testing"},
		{"several are none: the walk goes on", "many.org.example", "", "fail org.example quarantine quarantine sub"},
		{"several", "many.example", "dkim:many.example", "none err"},
		{"broken", "broken.example", "dkim:broken.example", "permerror err"},
		{"no record", "none.example", "dkim:none.example", "none"},
		{"dead", "dead.example", "dkim:dead.example", "temperror err"},
		{"dead above", "x.dead.example", "dkim:x.dead.example", "temperror err"},
		{"a proof whose walk fails", "half.example", "dkim:down.half.example", "temperror half.example reject none err"},
		{"a proof whose walk fails, and another", "half.example", "dkim:down.half.example spf:half.example", "pass half.example reject none spf"},
		{"CNAME", "alias.example", "", "fail alias.example reject reject"},
		{"CNAME loop", "loop.example", "", "temperror err"},
		{"pct counts for nothing", "some.example", "", "fail some.example quarantine quarantine"},
		{"literal", "[192.0.2.1]", "", "none"},
	} {
		got := evaluator(t, dmarc.RFC9989, zone).Evaluate(t.Context(), domain(t, c.from), proofs(t, c.proofs))
		if say(got) != c.want {
			t.Errorf("%s: got %s, want %s (%v)", c.name, say(got), c.want, got.Err)
		}
	}
}

// TestEvaluate7489 has a list of suffixes of which "example" is one.
func TestEvaluate7489(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, from, proofs, want string }{
		{"sp", "unreal.example.com", "", "fail example.com quarantine quarantine sub"},
		{"relaxed", "example.com", "dkim:a.b.example.com", "pass example.com reject none dkim"},
		{"only the organization is asked", "a.dept.org.example", "", "fail org.example quarantine quarantine sub"},
		{"several end it", "many.org.example", "", "none err"},
		{"pct 50 and 50 drawn", "some.example", "", "fail some.example quarantine none sampled"},
		{"pct 51 and 50 drawn", "most.example", "", "fail most.example reject reject"},
		{"t counts for nothing", "testing.example", "", "fail testing.example reject reject"},
		{"psd counts for nothing", "x.giant.bank.example", "", "fail bank.example reject reject sub"},
	} {
		got := evaluator(t, dmarc.RFC7489, zone).Evaluate(t.Context(), domain(t, c.from), proofs(t, c.proofs))
		if say(got) != c.want {
			t.Errorf("%s: got %s, want %s (%v)", c.name, say(got), c.want, got.Err)
		}
	}
}

// counting notes what is asked.
type counting struct {
	dmarc.Records
	mu    sync.Mutex
	names []string
}

func (c *counting) TXT(ctx context.Context, name string) ([]string, error) {
	c.mu.Lock()
	c.names = append(c.names, name)
	c.mu.Unlock()
	return c.Records.TXT(ctx, name)
}

// TestQuestions counts the questions that messages cost.
func TestQuestions(t *testing.T) {
	t.Parallel()
	deep := strings.Split("a.b.c.d.e.f.g.h.i.j.mail.example.net", ".")
	var walk []string
	for _, n := range []int{0, 6, 7, 8, 9, 10, 11, 12} { // RFC 9989 §4.10
		walk = append(walk, "_dmarc."+strings.Join(deep[n:], "."))
	}
	for _, c := range []struct {
		name, from, proofs string
		want               []string
	}{
		{"same domain", "example.com", "spf:example.com dkim:example.com", []string{"_dmarc.example.com"}},
		{"strict", "strict.example", "spf:a.strict.example", []string{"_dmarc.strict.example"}},
		{"strangers", "example.com", "spf:example.net dkim:mail.example.org", []string{"_dmarc.example.com"}},
		{"neighbour", "example.com", "spf:other.com", []string{"_dmarc.example.com", "_dmarc.com"}},
		{"below", "example.com", "dkim:mail.example.com", []string{"_dmarc.example.com", "_dmarc.com", "_dmarc.mail.example.com"}},
		{"no np, no question", "signing.example.com", "", []string{"_dmarc.signing.example.com"}},
		{"np", "real.example.com", "", []string{"_dmarc.real.example.com", "_dmarc.example.com", "_dmarc.com", "real.example.com"}},
		{"RFC 9989 §4.10", strings.Join(deep, "."), "", walk},
	} {
		z, err := resolver.NewZone(zone)
		if err != nil {
			t.Fatal(err)
		}
		rec := &counting{Records: dmarc.FromResolver(z)}
		e, err := dmarc.New(dmarc.Config{Records: rec})
		if err != nil {
			t.Fatal(err)
		}
		e.Evaluate(t.Context(), domain(t, c.from), proofs(t, c.proofs))
		if diff := cmp.Diff(c.want, rec.names); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// TestManyProofs bounds what a message with very many signatures costs.
func TestManyProofs(t *testing.T) {
	t.Parallel()
	z, err := resolver.NewZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	rec := &counting{Records: dmarc.FromResolver(z)}
	e, err := dmarc.New(dmarc.Config{Records: rec})
	if err != nil {
		t.Fatal(err)
	}
	var p dmarc.Proofs
	for i := range 500 { // each below a domain that parts from example's
		p.DKIM = append(p.DKIM, dmarc.Proof{Domain: domain(t, fmt.Sprintf("a.b.c.d.n%d.dept.org.example", i)), Pass: true})
	}
	if r := e.Evaluate(t.Context(), domain(t, "org.example"), p); r.Status != dmarc.Fail {
		t.Errorf("got %s", say(r))
	}
	if len(rec.names) > 2+8*7 {
		t.Errorf("%d questions", len(rec.names))
	}
}

func TestDestination(t *testing.T) {
	t.Parallel()
	e := evaluator(t, dmarc.RFC9989, zone+`
example.com._report._dmarc.takes.example.    TXT "v=DMARC1"
*._report._dmarc.any.example.                TXT "v=DMARC1;"
example.com._report._dmarc.moves.example.    TXT "v=DMARC1; rua=mailto:new@moves.example,mailto:also@moves.example"
example.com._report._dmarc.cheats.example.   TXT "v=DMARC1; rua=mailto:victim@example.net"
example.com._report._dmarc.other.example.    TXT "no"
!servfail example.com._report._dmarc.dead.example
`)
	for _, c := range []struct {
		to, want string
		err      error
	}{
		{"mailto:a@example.com", "mailto:a@example.com", nil},
		{"mailto:a@real.example.com", "mailto:a@real.example.com", nil},
		{"mailto:a@takes.example", "mailto:a@takes.example", nil},
		{"mailto:a@moves.example", "mailto:new@moves.example mailto:also@moves.example", nil},
		{"mailto:a@cheats.example", "", dmarc.ErrUnauthorized},
		{"mailto:a@other.example", "", dmarc.ErrUnauthorized},
		{"mailto:a@none.example", "", dmarc.ErrUnauthorized},
		{"mailto:a@dead.example", "", resolver.ErrTemporary},
		{"https://example.com/", "", dmarc.ErrScheme},
	} {
		r, err := dmarc.ParseRecord("v=DMARC1; p=none; rua=" + c.to)
		if err != nil {
			t.Fatal(err)
		}
		uris, err := e.Destination(t.Context(), domain(t, "example.com"), r.Aggregate[0])
		var got []string
		for _, u := range uris {
			got = append(got, u.Text)
		}
		if strings.Join(got, " ") != c.want || !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("%s: got %v, %v; want %s, %v", c.to, got, err, c.want, c.err)
		}
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	e := evaluator(t, dmarc.RFC9989, zone)
	for name, want := range map[string]error{
		"example.com": nil, "real.example.com": dmarc.ErrNoRecord, "many.example": dmarc.ErrMany, "broken.example": dmarc.ErrSyntax, "dead.example": resolver.ErrTemporary,
	} {
		r, err := e.Record(t.Context(), domain(t, name))
		if !errors.Is(err, want) || (err == nil) != (r != nil) {
			t.Errorf("%s: got %v, %v; want %v", name, r, err, want)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	if _, err := dmarc.New(dmarc.Config{}); err == nil {
		t.Error("no Records, no error")
	}
	if _, err := dmarc.New(dmarc.Config{Records: dmarc.FromResolver(nil), Mode: 9}); err == nil {
		t.Error("unknown mode, no error")
	}
}
