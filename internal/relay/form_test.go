package relay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/relay"
)

// signer signs with the number of body octets.
type signer struct{ mu sync.Mutex }

func (s *signer) Sign(_ context.Context, d address.Domain, header []byte, body io.Reader) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := io.ReadAll(body)
	if err != nil || strings.Contains(string(header), "DKIM-Signature") {
		return nil, fmt.Errorf("%w: header %q", errors.ErrUnsupported, header)
	}
	return fmt.Appendf(nil, "DKIM-Signature: d=%s; new; l=%d\r\n", d, len(b)), nil
}

const eightBit = "From: Us <us@here.example>\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nżółw\r\n"

// TestForms has messages that a host can't take as they are.
func TestForms(t *testing.T) {
	t.Parallel()
	old := []string{"PIPELINING", "SIZE 10000"}
	all := []string{"PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN"}
	tests := []struct {
		name, text string
		ext        []string
		change     func(m *queue.Message)
		to         string
		want       string // the fate
		data       string // what must have come
		params     string
		report     string
	}{
		{name: "8-bit as it is", text: eightBit, ext: all, change: func(m *queue.Message) { m.Body = envelope.Body8BitMIME }, want: "relayed", data: eightBit, params: "BODY=8BITMIME"},
		{name: "8-bit converted", text: eightBit, ext: old, change: func(m *queue.Message) { m.Body = envelope.Body8BitMIME }, want: "relayed",
			data: "From: Us <us@here.example>\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C5=BC=C3=B3=C5=82w\r\n"},
		{name: "converted and signed again", text: "DKIM-Signature: v=1; d=here.example; b=x\r\n" + eightBit, ext: old, want: "relayed",
			data: "DKIM-Signature: d=here.example; new; l=21\r\nFrom: Us <us@here.example>\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C5=BC=C3=B3=C5=82w\r\n"},
		{name: "foreign signature", text: "DKIM-Signature: v=1; d=other.example; b=x\r\n" + eightBit, ext: old, want: "returned 554 5.6.3", report: "failed 5.6.3"},
		{name: "foreign mail", text: eightBit, ext: old, change: func(m *queue.Message) { m.Ours = false }, want: "returned 554 5.6.3", report: "failed 5.6.3"},
		{name: "signed MIME", text: "Content-Type: multipart/signed; boundary=a\r\n\r\n--a\r\n\r\nż\r\n--a--\r\n", ext: old, want: "returned 554 5.6.3", report: "failed 5.6.3"},
		{name: "ASCII called 8-bit", text: "Subject: x\r\n\r\nx\r\n", ext: old, change: func(m *queue.Message) { m.Body = envelope.Body8BitMIME }, want: "relayed", data: "Subject: x\r\n\r\nx\r\n"},
		{name: "global recipient", ext: old, to: "żółw@them.example", want: "returned 553 5.6.7", report: "failed 5.6.7"},
		{name: "global recipient taken", ext: all, to: "żółw@them.example", want: "relayed", params: "SMTPUTF8"},
		{name: "global sender", ext: old, change: func(m *queue.Message) { m.ReversePath = "żółw@here.example" }, want: "returned 553 5.6.7", report: "failed 5.6.7"},
		{name: "global header", text: "Subject: ż\r\n\r\nx\r\n", ext: old, change: func(m *queue.Message) { m.UTF8, m.SMTPUTF8 = true, true }, want: "returned 554 5.6.9", report: "failed 5.6.9"},
		{name: "ASCII under SMTPUTF8", ext: old, change: func(m *queue.Message) { m.SMTPUTF8 = true }, want: "relayed"},
		{name: "too large", text: "Subject: x\r\n\r\n" + strings.Repeat("x", 996) + "\r\n", ext: all, want: "returned 552 5.3.4", report: "failed 5.3.4"},
		{name: "success passed on", ext: all, change: func(m *queue.Message) { m.Recipients[0].Notify = envelope.NotifySuccess }, want: "relayed"},
		{name: "success told by us", ext: old, change: func(m *queue.Message) { m.Recipients[0].Notify = envelope.NotifySuccess }, want: "relayed", report: "relayed 2.0.0"},
		{name: "never", ext: old, to: "gone@them.example", change: func(m *queue.Message) { m.Recipients[0].Notify = envelope.NotifyNever }, want: "returned 550"},
		{name: "null reverse-path", ext: old, to: "gone@them.example", change: func(m *queue.Message) { m.ReversePath = "" }, want: "returned 550"},
		{name: "REQUIRETLS without TLS", ext: all, change: func(m *queue.Message) { m.RequireTLS = true }, want: "returned 550 5.7.10", report: "failed 5.7.10"},
		{name: "DELIVERBY R not offered", ext: all, change: func(m *queue.Message) {
			m.DeliverBy = envelope.DeliverBy{Mode: envelope.ByReturn, Time: time.Now().Add(time.Hour)}
		}, want: "returned 554 5.4.7", report: "failed 5.4.7"},
		{name: "DELIVERBY R offered", ext: append([]string{"DELIVERBY 60"}, all...), change: func(m *queue.Message) {
			m.DeliverBy = envelope.DeliverBy{Mode: envelope.ByReturn, Time: time.Now().Add(time.Hour)}
		}, want: "relayed", params: "BY=3600;R"},
		{name: "DELIVERBY N", ext: append([]string{"DELIVERBY"}, all...), change: func(m *queue.Message) {
			m.DeliverBy = envelope.DeliverBy{Mode: envelope.ByNotify, Time: time.Now().Add(-time.Minute), Trace: true}
		}, want: "relayed", params: "BY=-60;NT", report: "relayed 2.0.0"},
		{name: "DELIVERBY N passed on", ext: append([]string{"DELIVERBY"}, all...), change: func(m *queue.Message) {
			m.DeliverBy = envelope.DeliverBy{Mode: envelope.ByNotify, Time: time.Now().Add(time.Minute)}
		}, want: "relayed", params: "BY=60;N"},
		{name: "DELIVERBY N not offered", ext: all, change: func(m *queue.Message) {
			m.DeliverBy = envelope.DeliverBy{Mode: envelope.ByNotify, Time: time.Now().Add(time.Minute)}
		}, want: "relayed", report: "relayed 2.0.0"},
		{name: "DELIVERBY N not offered, NEVER", ext: all, change: func(m *queue.Message) {
			m.DeliverBy = envelope.DeliverBy{Mode: envelope.ByNotify, Time: time.Now().Add(time.Minute), Trace: true}
			m.Recipients[0].Notify = envelope.NotifyNever
		}, want: "relayed"},
		{name: "DELIVERBY R traced", ext: append([]string{"DELIVERBY"}, all...), change: func(m *queue.Message) {
			m.DeliverBy = envelope.DeliverBy{Mode: envelope.ByReturn, Time: time.Now().Add(time.Hour), Trace: true}
		}, want: "relayed", params: "BY=3600;RT", report: "relayed 2.0.0"},
		{name: "priority", ext: append([]string{"MT-PRIORITY"}, all...), change: func(m *queue.Message) { m.Priority = 4 }, want: "relayed", params: "MT-PRIORITY=4"},
		{name: "our own ENVID", ext: all, want: "relayed", params: "ENVID=0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				w.cfg.Signer = &signer{}
				p := w.serve(t, "them.example", peer.Config{Extensions: tt.ext, Rules: []peer.Rule{{Stage: peer.Rcpt, Match: "gone", Do: peer.Reply("550 5.1.1 nobody")}}})
				defer p.Close()
				to := "a@them.example"
				if tt.to != "" {
					to = tt.to
				}
				m := w.letter(to)
				if tt.text != "" {
					w.bodies.set(m.ID, tt.text)
					m.Octets = int64(len(tt.text))
				}
				if tt.change != nil {
					tt.change(m)
				}
				w.put(m)
				stop := w.start(t)
				w.until(t, time.Minute)
				stop()
				if got := w.fate(to); !strings.HasPrefix(got, tt.want) {
					t.Errorf("fate %q, want %q", got, tt.want)
				}
				var want []string
				if tt.report != "" {
					want = []string{tt.report + " " + to}
				}
				if d := cmp.Diff(want, w.notes.all()); d != "" {
					t.Errorf("reports: %s", d)
				}
				got := p.Messages()
				if (len(got) == 1) != (tt.want == "relayed") {
					t.Fatalf("%d messages came", len(got))
				}
				if len(got) == 1 && (tt.data != "" && string(got[0].Data) != tt.data || !strings.Contains(got[0].Params, tt.params)) {
					t.Errorf("came %q with %q", got[0].Data, got[0].Params)
				}
			})
		})
	}
}

func TestManyRecipients(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Late(time.Second)}}})
		defer p.Close()
		var to []string
		for i := range 1000 {
			to = append(to, fmt.Sprintf("r%d@them.example", i))
		}
		m := w.letter(to...)
		for i := range 3 { // copies of forwards have a reverse-path of their own
			m.Recipients[i].Forward, m.Recipients[i].ReversePath, m.Recipients[i].Written = "list@here.example", fmt.Sprintf("SRS0=%d@here.example", i%2), "list@here.example"
		}
		w.put(m)
		stop := w.start(t)
		began := time.Now()
		w.until(t, time.Minute)
		took := time.Since(began)
		stop()
		from := map[string]int{}
		for _, x := range p.Messages() {
			from[x.From] += len(x.Rcpts)
			if len(x.Rcpts) > 100 {
				t.Errorf("%d recipients in one transaction", len(x.Rcpts))
			}
		}
		if d := cmp.Diff(map[string]int{"us@here.example": 997, "SRS0=0@here.example": 2, "SRS0=1@here.example": 1}, from); d != "" {
			t.Error(d)
		}
		if n := len(p.Messages()); n > 16 || took > 10*time.Second {
			t.Errorf("%d transactions took %v", n, took)
		}
	})
}

// judge decides over failures of forwards.
type judge struct {
	mu                sync.Mutex
	failed, succeeded []string
}

func (j *judge) Failed(_ context.Context, _ *queue.Message, r *queue.Recipient, status string) (relay.Decision, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = append(j.failed, r.ForwardPath+" "+status[:3])
	if strings.HasPrefix(r.ForwardPath, "secret") {
		return relay.TellSender, nil
	}
	return relay.TellNobody, nil
}

func (j *judge) Succeeded(_ context.Context, _ *queue.Message, r *queue.Recipient) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.succeeded = append(j.succeeded, r.ForwardPath)
}

// TestForwards holds that no report shows where a forward leads.
func TestForwards(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		j := &judge{}
		w.cfg.Forwards = j
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{
			{Stage: peer.Rcpt, Match: "secret", Do: peer.Reply("550 5.1.1 <secret@them.example> is nobody")},
			{Stage: peer.Rcpt, Match: "quiet", Do: peer.Reply("550 5.1.1 no")}}})
		defer p.Close()
		m := w.letter("secret@them.example", "quiet@them.example", "fine@them.example")
		for i := range m.Recipients {
			m.Recipients[i].Forward, m.Recipients[i].Written, m.Recipients[i].ReversePath = "f@here.example", "f@here.example", "SRS0=x@here.example"
		}
		w.put(m)
		stop := w.start(t)
		w.until(t, time.Minute)
		stop()
		if d := cmp.Diff([]string{"failed 5.1.1 f@here.example"}, w.notes.all()); d != "" {
			t.Error(d)
		}
		if r := w.notes.sent[0].recs[0]; strings.Contains(fmt.Sprint(r), "secret") || r.RemoteMTA != "" {
			t.Errorf("the report tells where the forward leads: %+v", r)
		}
		if len(j.failed) != 2 || len(j.succeeded) != 1 || w.left() != 0 {
			t.Errorf("failed %v, succeeded %v", j.failed, j.succeeded)
		}
	})
}

// TestRoutes sends mail by sender, by domain and by fallback.
func TestRoutes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		direct := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Mail, Match: "shop", Do: peer.Reply("554 5.7.1 your address is on a blocklist")}}})
		other := w.serve(t, "other.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: peer.Reply("554 5.7.1 we do not like you")}}})
		smart := w.serve(t, "smart.example", peer.Config{})
		store := peer.New(peer.Config{LMTP: true, Extensions: []string{"PIPELINING"}, Rules: []peer.Rule{{Stage: peer.Final, Match: "full@", Do: peer.Reply("552 5.2.2 full")}}})
		for _, p := range []*peer.Peer{direct, other, smart, store} {
			defer p.Close()
		}
		w.hosts["192.0.2.3:587"] = func() (net.Conn, error) { return smart.Dial(), nil }
		w.hosts["/run/lmtp"] = func() (net.Conn, error) { return store.Dial(), nil }
		w.cfg.Routes = []relay.Route{
			{Name: "boss", Senders: []string{"Boss@here.example", "@vip.example"}, Host: domainOf("smart.example"), Port: 587},
			{Name: "lmtp", Domains: []string{".local.example"}, Socket: "/run/lmtp", LMTP: true},
			{Name: "rescue", Host: domainOf("smart.example"), Port: 587, Fallback: true},
		}
		boss, shop := w.letter("boss@them.example"), w.letter("shop@them.example", "two@them.example")
		boss.ReversePath, shop.ReversePath = "boss@here.example", "shop@here.example"
		local := w.letter("ok@x.local.example", "full@x.local.example")
		local.Recipients[0].Notify = envelope.NotifySuccess
		for _, m := range []*queue.Message{boss, shop, local, w.letter("plain@them.example"), w.letter("else@other.example")} {
			w.put(m)
		}
		stop := w.start(t)
		w.until(t, time.Minute)
		stop()
		if n := w.left(); n != 0 {
			t.Errorf("%d left", n)
		}
		came := func(p *peer.Peer) string {
			var s []string
			for _, m := range p.Messages() {
				for _, r := range m.Rcpts {
					s = append(s, r.Path)
				}
			}
			slices.Sort(s)
			return strings.Join(s, " ")
		}
		if got := came(smart); got != "boss@them.example else@other.example shop@them.example two@them.example" {
			t.Errorf("smart host: %s", got)
		}
		if got := w.fate("shop@them.example"); !strings.Contains(got, "(after mx1.them.example [192.0.2.1]: 554 5.7.1 your address is on a blocklist)") {
			t.Errorf("the fate does not tell why the mail took the fallback route: %s", got)
		}
		if got := came(direct); got != "plain@them.example" {
			t.Errorf("direct: %s", got)
		}
		if d := cmp.Diff([]string{"delivered 2.0.0 ok@x.local.example", "failed 5.2.2 full@x.local.example"}, w.notes.all()); d != "" {
			t.Error(d)
		}
	})
}

// TestBlocked has port 25 closed by the provider: the fallback route takes over, and the
// end of it is seen.
func TestBlocked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		smart := w.serve(t, "smart.example", peer.Config{})
		defer smart.Close()
		w.hosts["192.0.2.1:587"] = func() (net.Conn, error) { return smart.Dial(), nil }
		told := 0
		w.cfg.Routes = []relay.Route{{Name: "rescue", Host: domainOf("smart.example"), Port: 587, Fallback: true}}
		w.cfg.Hooks.Blocked = func() { told++ }
		for i := range 12 {
			name := fmt.Sprintf("d%d.example", i)
			w.names.hosts[name] = []string{fmt.Sprintf("mx.%s=10.%d.0.1", name, i)}
			w.put(w.letter("a@" + name))
		}
		stop := w.start(t)
		w.until(t, time.Hour)
		for i := range 3 {
			w.put(w.letter(fmt.Sprintf("later%d@d1.example", i)))
			w.until(t, 5*time.Minute)
		}
		stop()
		if w.left() != 0 || told != 1 || len(smart.Messages()) != 15 {
			t.Errorf("%d left, told %d times, %d came", w.left(), told, len(smart.Messages()))
		}
	})
}

// TestSites holds that domains with common hosts share connections, and that the number of
// connections follows what the host bears.
func TestSites(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "d0.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Late(time.Second)}}})
		defer p.Close()
		most, open := 0, 0
		var mu sync.Mutex
		w.cfg.PerSite = 5
		w.cfg.Hooks.Open = func(d int) {
			mu.Lock()
			defer mu.Unlock()
			open += d
			most = max(most, open)
		}
		for i := range 100 {
			name := fmt.Sprintf("d%d.example", i)
			w.names.hosts[name] = w.names.hosts["d0.example"]
			w.put(w.letter("a@" + name))
		}
		stop := w.start(t)
		w.until(t, time.Hour)
		stop()
		mu.Lock()
		defer mu.Unlock()
		if n := p.Connections(); n > 6 || len(p.Messages()) != 100 {
			t.Errorf("%d connections for %d messages of 100 domains with one host", n, len(p.Messages()))
		}
		if most != 5 || open != 0 {
			t.Errorf("%d connections at once, %d left open", most, open)
		}
	})
}

// TestTooManyConnections has a host that bears three connections: the others wait, and
// nobody's time is spoilt.
func TestTooManyConnections(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Late(time.Second)}}})
		busy := peer.New(peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: peer.Reply("421 4.7.0 too many connections")}}})
		defer p.Close()
		defer busy.Close()
		open := 0
		var mu sync.Mutex
		w.cfg.Hooks.Open = func(d int) {
			mu.Lock()
			defer mu.Unlock()
			open += d
		}
		w.hosts["192.0.2.1:25"] = func() (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if open >= 3 {
				return busy.Dial(), nil
			}
			return p.Dial(), nil
		}
		for range 200 {
			w.put(w.letter(fmt.Sprintf("a%d@them.example", w.serial)))
		}
		stop := w.start(t)
		began := time.Now()
		w.until(t, time.Hour)
		took := time.Since(began)
		stop()
		if w.left() != 0 || took > 5*time.Minute {
			t.Errorf("%d left after %v", w.left(), took)
		}
	})
}

func TestRate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "them.example", peer.Config{})
		defer p.Close()
		w.cfg.RatePerSite = 60
		for range 100 {
			w.put(w.letter(fmt.Sprintf("a%d@them.example", w.serial)))
		}
		stop := w.start(t)
		<-time.After(30 * time.Second)
		half := len(p.Messages())
		w.until(t, 2*time.Minute)
		stop()
		if half < 35 || half > 42 || w.left() != 0 {
			t.Errorf("%d in half a minute at 60 a minute, %d left", half, w.left())
		}
	})
}

func TestProbe(t *testing.T) {
	t.Parallel()
	n := &names{hosts: map[string][]string{"a.example": {"mx.a.example=10.1.0.1"}, "b.example": {"mx.b.example=10.2.0.1"}, "open.example": {"mx.open.example=10.3.0.1"}, "closed.example": {"mx.closed.example=10.4.0.1"}}}
	prober := relay.Prober{MX: n, Dial: func(_ context.Context, _, addr string, _ netip.Addr) (net.Conn, error) {
		switch {
		case strings.HasPrefix(addr, "10.3."):
			c, _ := net.Pipe()
			return c, nil
		case strings.HasPrefix(addr, "10.4."):
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		return nil, context.DeadlineExceeded
	}}
	for list, want := range map[string]string{
		"a.example b.example":                "blocked by your provider",
		"a.example":                          "none of 1",
		"a.example b.example open.example":   "1 of 3",
		"a.example b.example closed.example": "none of 3",
		"none.example":                       "none of 1",
		"":                                   "not tried",
	} {
		var domains []address.Domain
		for d := range strings.FieldsSeq(list) {
			domains = append(domains, domainOf(d))
		}
		f := prober.Probe(t.Context(), domains)
		if got := f.String(); !strings.Contains(got, want) || f.Blocked != strings.Contains(want, "blocked") {
			t.Errorf("%s: %s", list, got)
		}
	}
}

// TestSources connects from this host's addresses, of the family of the other's, in turn.
func TestSources(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "four.example", peer.Config{})
		defer p.Close()
		w.names.hosts["six.example"] = []string{"mx.six.example=2001:db8::1"}
		w.hosts["[2001:db8::1]:25"] = func() (net.Conn, error) { return p.Dial(), nil }
		addrs := func(list ...string) (out []netip.Addr) {
			for _, a := range list {
				out = append(out, netip.MustParseAddr(a))
			}
			return out
		}
		w.cfg.Sources = addrs("198.51.100.1", "198.51.100.2")
		w.cfg.Routes = []relay.Route{{Name: "six", Domains: []string{"six.example"}, Sources: addrs("198.51.100.3", "2001:db8::2")}}
		var mu sync.Mutex
		used := map[string]bool{}
		w.cfg.Dial = func(ctx context.Context, network, addr string, source netip.Addr) (net.Conn, error) {
			mu.Lock()
			used[addr+" from "+source.String()] = true
			mu.Unlock()
			return w.dial(ctx, network, addr, source)
		}
		turn := 0.0
		w.cfg.Random = func() float64 {
			mu.Lock()
			defer mu.Unlock()
			turn = 0.5 - turn
			return turn
		}
		w.cfg.PerConnection = 1
		for range 6 {
			w.put(w.letter(fmt.Sprintf("a%d@four.example", w.serial)))
			w.put(w.letter(fmt.Sprintf("a%d@six.example", w.serial)))
		}
		stop := w.start(t)
		w.until(t, time.Minute)
		stop()
		want := map[string]bool{"192.0.2.1:25 from 198.51.100.1": true, "192.0.2.1:25 from 198.51.100.2": true, "[2001:db8::1]:25 from 2001:db8::2": true}
		mu.Lock()
		defer mu.Unlock()
		if w.left() != 0 || len(used) < 2 {
			t.Errorf("%d left", w.left())
		}
		for u := range used {
			if !want[u] {
				t.Errorf("connected to %s", u)
			}
		}
	})
}

// TestBrokenSmartHost has routes whose configuration is wrong: mail waits, it is not returned.
func TestBrokenSmartHost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "smart.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Mail, Do: peer.Reply("530 5.7.0 Authentication required")}}})
		defer p.Close()
		w.cfg.Routes = []relay.Route{{Name: "gone", Domains: []string{"a.example"}, Host: domainOf("gone.example"), Port: 25}, {Name: "smart", Host: domainOf("smart.example"), Port: 25}}
		w.put(w.letter("a@a.example", "b@b.example"))
		stop := w.start(t)
		<-time.After(3 * time.Hour)
		if w.left() != 2 || !strings.HasPrefix(w.fate("a@a.example"), "deferred 451 4.4.4") || !strings.HasPrefix(w.fate("b@b.example"), "deferred 530") {
			t.Errorf("%q and %q", w.fate("a@a.example"), w.fate("b@b.example"))
		}
		p.SetRules()
		w.names.mu.Lock()
		w.names.hosts["gone.example"] = w.names.hosts["smart.example"]
		w.names.mu.Unlock()
		w.until(t, 2*time.Hour)
		stop()
		if w.left() != 0 || len(p.Messages()) != 2 {
			t.Errorf("%d left, %d came", w.left(), len(p.Messages()))
		}
	})
}
