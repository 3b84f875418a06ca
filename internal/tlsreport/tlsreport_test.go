package tlsreport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/tlspolicy"
	"poczta.example/poczta/internal/tlsreport"
	"poczta.example/poczta/internal/tlsrpt"
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

// world is a day with one failed session to each domain of a zone.
type world struct {
	t        *testing.T
	store    *tlspolicy.Store
	accepter *accepter
	cfg      tlsreport.Config
	day      int64
}

func open(t *testing.T, zone string, domains ...string) *world {
	t.Helper()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{tlspolicy.Schema}); err != nil {
		t.Fatal(err)
	}
	z, err := resolver.NewZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	store, err := tlspolicy.New(tlspolicy.Config{DB: d, Resolver: z})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, accepter: &accepter{db: d}, day: tlspolicy.Day(time.Now())}
	for _, name := range domains {
		dom, _ := address.ParseDomain(name)
		p, err := store.Plan(t.Context(), dom, mx.Route{Domain: dom})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Host(t.Context(), mx.Host{Name: dom})
		if err != nil {
			t.Fatal(err)
		}
		store.Note(t.Context(), tlspolicy.Result{Verdict: r.Check(nil, nil)})
	}
	if err := store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.cfg = tlsreport.Config{
		Store: store, Reported: tlspolicy.ErrReported, DB: d, Resolver: z, Accepter: w.accepter, From: intaketest.Addr(t, "tls@sender.example"),
		Router: &intaketest.Router{Domains: []string{"sender.example"}, Routes: map[string]account.Route{
			"in@sender.example": {Match: account.MatchAddress, Locals: []account.Local{{Account: 1, Login: "in", Address: intaketest.Addr(t, "in@sender.example")}}},
		}},
		Sign: func(_ context.Context, d address.Domain, msg []byte) ([]byte, error) {
			if !strings.Contains(string(msg), "TLS-Report-Domain: ") {
				return nil, errors.New("not a report")
			}
			return []byte("DKIM-Signature: d=" + d.String() + "\r\n"), nil
		},
	}
	return w
}

func (w *world) send() (int, error) {
	w.t.Helper()
	r, err := tlsreport.New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Send(w.t.Context(), w.day)
}

func (w *world) left() int {
	w.t.Helper()
	left, err := w.store.Unreported(w.t.Context(), w.day, "", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(left)
}

const zone = `
_smtp._tls.mail.example.  TXT "v=TLSRPTv1; rua=mailto:r%65ports@mail.example?subject=x"
_smtp._tls.local.example. TXT "v=TLSRPTv1; rua=mailto:in@sender.example"
_smtp._tls.bad.example.   TXT "v=TLSRPTv1; rua="
!servfail _smtp._tls.dead.example
`

func TestMail(t *testing.T) {
	t.Parallel()
	w := open(t, zone, "mail.example", "local.example", "none.example", "bad.example", "dead.example")
	sent, err := w.send()
	if sent != 2 || !errors.Is(err, resolver.ErrTemporary) || w.left() != 1 {
		t.Errorf("sent %d, %v; %d left; want 2, and the one that DNS knows nothing of at present left", sent, err, w.left())
	}
	all := w.accepter.Accepted()
	if len(all) != 2 || w.accepter.Leaked() != 0 {
		t.Fatalf("got %d messages, %d staged left", len(all), w.accepter.Leaked())
	}
	for i, want := range []string{"in@sender.example", "reports@mail.example"} {
		d := all[i]
		if to := d.Envelope.Recipients[0].ForwardPath.Address().String(); to != want || !d.TLSOptional || !d.Ours || !strings.Contains(string(d.Head), "d=sender.example") {
			t.Errorf("got %+v", d)
		}
	}
	if len(all[0].Locals) != 1 || len(all[1].Remotes) != 1 {
		t.Errorf("got %v, %v", all[0].Locals, all[1].Remotes)
	}
	if sent, _ := w.send(); sent != 0 {
		t.Errorf("%d reports were sent twice", sent)
	}
}

func TestMailFails(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"no key": func(w *world) {
			w.cfg.Sign = func(context.Context, address.Domain, []byte) ([]byte, error) { return nil, nil }
		},
		"no signature": func(w *world) {
			w.cfg.Sign = func(context.Context, address.Domain, []byte) ([]byte, error) { return nil, io.EOF }
		},
		"not accepted":  func(w *world) { w.accepter.AcceptErr = errors.New("disk full") },
		"no staging":    func(w *world) { w.accepter.StageErr = errors.New("disk full") },
		"write refused": func(w *world) { w.accepter.WriteErr = errors.New("disk full") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := open(t, zone, "mail.example")
			change(w)
			if sent, err := w.send(); sent != 0 || err == nil || w.left() != 1 || w.accepter.Leaked() != 0 {
				t.Errorf("sent %d, %v; %d left", sent, err, w.left())
			}
		})
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	var got atomic.Value
	ca := certtest.New(t)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		file, _ := io.ReadAll(req.Body)
		got.Store(fmt.Sprint(req.Method, " ", req.URL.Path, " ", req.Header.Get("Content-Type"), " ", len(file) > 100))
		w.Header().Set("Location", "https://127.0.0.1:1/")
		w.WriteHeader(int(status.Load()))
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf("up.example")}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	port := srv.URL[strings.LastIndexByte(srv.URL, ':')+1:]
	w := open(t, "up.example. A 127.0.0.1\n_smtp._tls.web.example. TXT \"v=TLSRPTv1; rua=https://up.example:"+port+"/in\"\n", "web.example")
	w.cfg.Roots = ca.Pool()
	for _, code := range []int64{500, 404, 302, 307} {
		status.Store(code)
		if sent, err := w.send(); sent != 0 || err == nil || w.left() != 1 {
			t.Errorf("%d: sent %d, %v; %d left", code, sent, err, w.left())
		}
	}
	w.cfg.Barred = func(netip.Addr) string { return "barred" }
	if sent, err := w.send(); sent != 0 || err == nil || w.left() != 1 {
		t.Errorf("barred: sent %d, %v", sent, err)
	}
	w.cfg.Barred = nil
	status.Store(201)
	if sent, err := w.send(); sent != 1 || err != nil || w.left() != 0 {
		t.Errorf("sent %d, %v; %d left", sent, err, w.left())
	}
	if want := "POST /in " + tlsrpt.MediaGzip + " true"; got.Load() != want {
		t.Errorf("got %v, want %s", got.Load(), want)
	}
}

// TestStallingPlaces has ten places that never answer: they have a minute together, and
// the report goes by mail.
func TestStallingPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, "up.example. A 192.0.2.1\n_smtp._tls.two.example. TXT \"v=TLSRPTv1; rua="+strings.Repeat("https://up.example/,", 9)+"mailto:a@two.example\"\n", "two.example")
		w.cfg.Barred = func(netip.Addr) string { <-time.After(50 * time.Second); return "never answers" }
		began := time.Now()
		sent, err := w.send()
		if took := time.Since(began); sent != 1 || err != nil || took > 2*time.Minute {
			t.Errorf("sent %d, %v, after %v", sent, err, took)
		}
		<-time.After(time.Minute) // the last dial ends
	})
}

// TestFallback has a first place that fails and a second that works.
func TestFallback(t *testing.T) {
	t.Parallel()
	w := open(t, "_smtp._tls.two.example. TXT \"v=TLSRPTv1; rua=https://absent.example/,mailto:a@two.example\"\n", "two.example")
	if sent, err := w.send(); sent != 1 || err != nil || len(w.accepter.Accepted()) != 1 {
		t.Errorf("sent %d, %v", sent, err)
	}
}

// fakeStore notes for which days reports are asked.
type fakeStore struct {
	tlsreport.Store
	days []int64
}

func (f *fakeStore) Unreported(_ context.Context, day int64, _ string, _ int) ([]address.Domain, error) {
	f.days = append(f.days, day)
	return nil, nil
}

// TestRun waits after midnight before it reports, and tries each hour.
func TestRun(t *testing.T) {
	t.Parallel()
	w := open(t, zone)
	synctest.Test(t, func(t *testing.T) { // begins at midnight, 2000-01-01 UTC
		store := &fakeStore{}
		cfg := w.cfg
		cfg.Store, cfg.Delay = store, 90*time.Minute
		r, err := tlsreport.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 26*time.Hour+30*time.Minute)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
		first := tlspolicy.Day(time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC))
		if len(store.days) != 23 || store.days[0] != first || store.days[21] != first || store.days[22] != first+1 {
			t.Errorf("got %v", store.days)
		}
	})
}
