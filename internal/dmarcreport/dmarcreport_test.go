package dmarcreport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/dmarcreport"
	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/resolver"
)

// accepter keeps what is accepted, and runs Within in a transaction as post does.
type accepter struct {
	intaketest.Accepter
	db db.Database
}

func (a *accepter) Accept(ctx context.Context, d *post.Delivery) error {
	if a.AcceptErr != nil {
		return a.AcceptErr
	}
	if err := a.db.Update(ctx, d.Within); err != nil {
		return err
	}
	return a.Accepter.Accept(ctx, d)
}

const zone = `
_dmarc.example.org.   TXT "v=DMARC1; p=reject; sp=quarantine; rua=mailto:r%65ports@example.org,mailto:more@example.org"
_dmarc.quiet.example. TXT "v=DMARC1; p=reject"
_dmarc.local.example. TXT "v=DMARC1; p=none; t=y; rua=mailto:in@sender.example,mailto:alias@sender.example"
sender.example.       A 192.0.2.1
local.example._report._dmarc.sender.example. TXT "v=DMARC1"
_dmarc.small.example. TXT "v=DMARC1; p=none; rua=mailto:a@small.example!10"
_dmarc.abuse.example. TXT "v=DMARC1; p=none; rua=mailto:victim@example.net"
_dmarc.web.example.   TXT "v=DMARC1; p=none; rua=https://web.example/"
!servfail _dmarc.dead.example
`

// world is a node.
type world struct {
	t        *testing.T
	reports  *dmarcreport.Reports
	cfg      dmarcreport.Config
	accepter *accepter
	now      atomic.Int64 // Unix seconds
	eval     *dmarc.Evaluator
}

func open(t *testing.T, d db.Database, mode dmarc.Mode) *world {
	t.Helper()
	z, err := resolver.NewZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	eval, err := dmarc.New(dmarc.Config{Records: dmarc.FromResolver(z), Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, accepter: &accepter{db: d}, eval: eval}
	w.now.Store(20000*86400 + 3600)
	w.cfg = dmarcreport.Config{
		DB: d, Policies: eval, Accepter: w.accepter, From: intaketest.Addr(t, "dmarc@sender.example"), Delay: time.Hour,
		Router: &intaketest.Router{Domains: []string{"sender.example"}, Routes: map[string]account.Route{
			"in@sender.example":    {Match: account.MatchAddress, Locals: []account.Local{{Account: 1, Login: "in", Address: intaketest.Addr(t, "in@sender.example")}}},
			"alias@sender.example": {Match: account.MatchAddress, Locals: []account.Local{{Account: 1, Login: "in", Address: intaketest.Addr(t, "in@sender.example")}}},
		}},
		Sign: func(_ context.Context, d address.Domain, msg []byte) ([]byte, error) {
			if !bytes.Contains(msg, []byte("Subject: Report Domain: ")) {
				return nil, errors.New("not a report")
			}
			return []byte("DKIM-Signature: d=" + d.String() + "\r\n"), nil
		},
		Own: func(_ context.Context, d address.Domain) (bool, error) {
			return strings.HasSuffix("."+d.String(), ".example.com"), nil
		},
		Now: func() time.Time { return time.Unix(w.now.Load(), 0) },
	}
	w.reports = w.node()
	return w
}

func (w *world) node() *dmarcreport.Reports {
	w.t.Helper()
	r, err := dmarcreport.New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func domain(t *testing.T, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// row is a message of From's domain, evaluated by the zone.
func (w *world) row(from, source string, dkim ...string) dmarcreport.Row {
	w.t.Helper()
	var p dmarc.Proofs
	var results []feedback.DKIMResult
	for _, d := range dkim {
		p.DKIM = append(p.DKIM, dmarc.Proof{Domain: domain(w.t, d), Pass: true})
		results = append(results, feedback.DKIMResult{Domain: d, Selector: "s", Result: "pass"})
	}
	res := w.eval.Evaluate(w.t.Context(), domain(w.t, from), p)
	return dmarcreport.Row{
		Result: res, Source: netip.MustParseAddr(source), From: domain(w.t, from), EnvelopeFrom: domain(w.t, "bounce."+from), Disposition: res.Applied,
		DKIM: results, SPF: []feedback.SPFResult{{Domain: "bounce." + from, Scope: "mfrom", Result: "none"}},
	}
}

func (w *world) flush(r *dmarcreport.Reports) {
	w.t.Helper()
	if err := r.Flush(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// carried is the report in an accepted message.
func carried(t *testing.T, text string) *feedback.Aggregate {
	t.Helper()
	var a *feedback.Aggregate
	r := strings.NewReader(text)
	root, err := mime.Parse(r, r.Size(), mime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	err = feedback.Find(r, root, feedback.Limits{}, func(_ feedback.Kind, in io.Reader) (err error) {
		a, err = feedback.ReadXML(in, feedback.Limits{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func each(t *testing.T, fn func(t *testing.T, d db.Database)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, []db.Component{dmarcreport.Schema}, fn)
}

// TestSend counts on two nodes and sends one report.
func TestSend(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, dmarc.RFC9989)
		other := w.node()
		for range 3 {
			w.reports.Note(w.row("example.org", "192.0.2.7", "example.org"))
			w.reports.Note(w.row("sub.example.org", "2001:db8::7"))
			w.flush(w.reports)
		}
		for range 4 {
			other.Note(w.row("example.org", "192.0.2.7", "example.org"))
		}
		forged := w.row("example.org", "192.0.2.6")
		forged.Disposition = dmarc.PolicyQuarantine
		w.reports.Note(forged)
		w.reports.Note(forged)
		w.flush(w.reports)
		odd := w.row("example.org", "192.0.2.8", "stranger.example")
		odd.DKIM = append([]feedback.DKIMResult{{Domain: "a.example.org", Selector: "s", Result: "fail"}}, odd.DKIM...)
		odd.Disposition, odd.Reasons = dmarc.PolicyNone, []feedback.Reason{{Type: "mailing_list", Comment: "list.example"}}
		other.Note(odd)
		mail := w.row("example.org", "192.0.2.9")
		mail.Report = true
		other.Note(mail)
		other.Note(w.row("quiet.example", "192.0.2.9"))
		other.Note(w.row("none.example", "192.0.2.9"))
		w.flush(other)
		day := dmarcreport.Day(w.cfg.Now())
		if n, err := w.reports.Send(t.Context(), day); n != 1 || err != nil {
			t.Fatalf("sent %d, %v", n, err)
		}
		if n, err := other.Send(t.Context(), day); n != 0 || err != nil {
			t.Errorf("sent %d more, %v", n, err)
		}
		got := w.accepter.Accepted()
		if len(got) != 1 || len(got[0].Remotes) != 2 || len(got[0].Locals) != 0 || !got[0].Ours || string(got[0].Head) != "DKIM-Signature: d=sender.example\r\n" {
			t.Fatalf("got %+v", got)
		}
		if r := got[0].Envelope.Recipients; r[0].ForwardPath.String() != "<reports@example.org>" || r[1].ForwardPath.String() != "<more@example.org>" || r[0].Notify == 0 {
			t.Errorf("got %v", r)
		}
		a := carried(t, got[0].Text)
		want := &feedback.Aggregate{
			Version: "1.0", Organization: "sender.example", Email: "dmarc@sender.example", ID: a.ID, Begin: time.Unix(20000*86400, 0).UTC(), End: time.Unix(20001*86400-1, 0).UTC(), Generator: "Poczta",
			Policy: feedback.Published{Domain: "example.org", Policy: "reject", Subdomain: "quarantine", DKIM: "r", SPF: "r", Discovery: "treewalk"},
			Records: []feedback.Record{
				{Source: netip.MustParseAddr("192.0.2.7"), Count: 7, Disposition: "pass", DKIM: "pass", SPF: "fail", EnvelopeFrom: "bounce.example.org", HeaderFrom: "example.org",
					AuthDKIM: []feedback.DKIMResult{{Domain: "example.org", Selector: "s", Result: "pass"}}, AuthSPF: []feedback.SPFResult{{Domain: "bounce.example.org", Scope: "mfrom", Result: "none"}}},
				{Source: netip.MustParseAddr("2001:db8::7"), Count: 3, Disposition: "quarantine", DKIM: "fail", SPF: "fail", EnvelopeFrom: "bounce.sub.example.org", HeaderFrom: "sub.example.org",
					AuthSPF: []feedback.SPFResult{{Domain: "bounce.sub.example.org", Scope: "mfrom", Result: "none"}}},
				{Source: netip.MustParseAddr("192.0.2.6"), Count: 2, Disposition: "quarantine", DKIM: "fail", SPF: "fail", Reasons: []feedback.Reason{{Type: "local_policy"}}, EnvelopeFrom: "bounce.example.org", HeaderFrom: "example.org",
					AuthSPF: []feedback.SPFResult{{Domain: "bounce.example.org", Scope: "mfrom", Result: "none"}}},
				{Source: netip.MustParseAddr("192.0.2.8"), Count: 1, Disposition: "none", DKIM: "fail", SPF: "fail", Reasons: odd.Reasons, EnvelopeFrom: "bounce.example.org", HeaderFrom: "example.org",
					AuthDKIM: []feedback.DKIMResult{{Domain: "stranger.example", Selector: "s", Result: "pass"}, {Domain: "a.example.org", Selector: "s", Result: "fail"}},
					AuthSPF:  []feedback.SPFResult{{Domain: "bounce.example.org", Scope: "mfrom", Result: "none"}}},
			},
		}
		if diff := cmp.Diff(want, a, sameAddr); diff != "" {
			t.Error(diff)
		}
		subject := "Subject: Report Domain: example.org\r\n\tSubmitter: sender.example\r\n\tReport-ID: <" + a.ID + ">\r\n"
		if !strings.Contains(got[0].Text, subject) || !strings.Contains(got[0].Text, `filename="sender.example!example.org!1728000000!1728086399!`) {
			t.Error(got[0].Text)
		}
	})
}

// TestPlaces has domains whose reports go nowhere, and one of a domain whose mail is here.
func TestPlaces(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{dmarcreport.Schema}); err != nil {
		t.Fatal(err)
	}
	w := open(t, d, dmarc.RFC9989)
	for _, name := range []string{"local.example", "small.example", "abuse.example", "web.example"} {
		w.reports.Note(w.row(name, "192.0.2.1"))
	}
	dead := w.row("local.example", "192.0.2.1")
	dead.Result.PolicyDomain = domain(t, "dead.example")
	w.reports.Note(dead)
	w.flush(w.reports)
	day := dmarcreport.Day(w.cfg.Now())
	n, err := w.reports.Send(t.Context(), day)
	if n != 1 || !errors.Is(err, resolver.ErrTemporary) {
		t.Errorf("sent %d, %v", n, err)
	}
	got := w.accepter.Accepted()
	if len(got) != 1 || len(got[0].Remotes) != 0 || len(got[0].Locals) != 1 || len(got[0].Locals[0].Recipients) != 2 {
		t.Fatalf("got %+v", got)
	}
	if a := carried(t, got[0].Text); !a.Policy.Testing || a.Records[0].Disposition != "none" {
		t.Errorf("got %+v", a)
	}
	if n, err := w.reports.Send(t.Context(), day); n != 0 || !errors.Is(err, resolver.ErrTemporary) { // dead.example alone is left
		t.Errorf("sent %d, %v", n, err)
	}
	if n, err := w.reports.Send(t.Context(), day+1); n != 0 || err != nil {
		t.Errorf("another day: sent %d, %v", n, err)
	}
}

// TestUnsent has reports that can't go now, and go later.
func TestUnsent(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{dmarcreport.Schema}); err != nil {
		t.Fatal(err)
	}
	w := open(t, d, dmarc.RFC7489)
	w.reports.Note(w.row("example.org", "192.0.2.1"))
	w.flush(w.reports)
	day := dmarcreport.Day(w.cfg.Now())
	w.accepter.AcceptErr = errors.New("disk full")
	if n, err := w.reports.Send(t.Context(), day); n != 0 || !errors.Is(err, w.accepter.AcceptErr) {
		t.Errorf("sent %d, %v", n, err)
	}
	w.accepter.AcceptErr = nil
	unsigned := w.cfg
	unsigned.Sign = func(context.Context, address.Domain, []byte) ([]byte, error) { return nil, nil }
	keyless, err := dmarcreport.New(unsigned)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := keyless.Send(t.Context(), day); n != 0 || err == nil || !strings.Contains(err.Error(), "poczta domain rotate") {
		t.Errorf("sent %d, %v", n, err)
	}
	if n, err := w.reports.Send(t.Context(), day); n != 1 || err != nil {
		t.Errorf("sent %d, %v", n, err)
	}
	a := carried(t, w.accepter.Accepted()[0].Text)
	if a.Policy.Percent != "100" || a.Policy.Discovery != "" || a.Generator != "" {
		t.Errorf("not the form of RFC 7489: %+v", a)
	}
}

// TestManySorts has messages each of which is different.
func TestManySorts(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{dmarcreport.Schema}); err != nil {
		t.Fatal(err)
	}
	w := open(t, d, dmarc.RFC9989)
	dropped := 0
	w.cfg.Hooks.Dropped = func() { dropped++ }
	r := w.node()
	row := w.row("example.org", "192.0.2.1")
	const n = 5200
	for i := range n {
		row.DKIM = []feedback.DKIMResult{{Domain: "example.org", Selector: fmt.Sprintf("s%d", i), Result: "fail"}}
		r.Note(row)
		if i%1000 == 0 {
			w.flush(r)
		}
	}
	w.flush(r)
	var rows, messages int64
	err := d.View(t.Context(), func(tx db.Tx) error {
		return tx.QueryRow("SELECT COUNT(*), SUM(messages) FROM dmarc_count").Scan(&rows, &messages)
	})
	if err != nil || rows > 5000 || messages+int64(dropped) != n || dropped == 0 {
		t.Errorf("%d rows, %d messages, %d dropped, %v", rows, messages, dropped, err)
	}
	if n, err := r.Send(t.Context(), dmarcreport.Day(w.cfg.Now())); n != 1 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
	records := carried(t, w.accepter.Accepted()[0].Text).Records
	told := int64(0)
	for _, rec := range records {
		told += rec.Count
	}
	if int64(len(records)) != rows || told != messages || records[0].Count < records[len(records)-1].Count {
		t.Errorf("reported %d records with %d messages of %d with %d", len(records), told, rows, messages)
	}
	w.now.Add(86400)
	r.Note(row)
	w.flush(r)
	if err := d.View(t.Context(), func(tx db.Tx) error { return tx.QueryRow("SELECT COUNT(*) FROM dmarc_count").Scan(&rows) }); err != nil || rows != 5001 {
		t.Errorf("a new day: %d rows, %v", rows, err)
	}
}
