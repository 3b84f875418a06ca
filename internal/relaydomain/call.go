package relaydomain

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// Bounds of one question.
const (
	dialTimeout  = 10 * time.Second // of one address
	replyTimeout = 10 * time.Second // of one reply
	maxAddrs     = 4                // that are tried
)

// Dialer connects; *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// host is what is known of a domain's host, and what it is being asked.
type host struct {
	turns chan struct{} // one element for each question under way

	mu     sync.Mutex
	asking map[string]*question // by the address' key
	alone  time.Time            // until when it is not asked
	why    error                // it could not be reached
}

// question is one under way. The rest is set when done is closed.
type question struct {
	done   chan struct{}
	left   bool // who asked has gone; the answer says nothing
	answer answer
}

var (
	errBusy = errors.New("too many questions to the domain's host at once")
	errGone = errors.New("nobody waits for the answer any more")
)

// ask asks the domain's host about a recipient. Who asks what is being asked
// waits for that answer.
func (d *Domains) ask(ctx context.Context, one *domain, to address.ForwardPath) answer {
	limited, cancel := context.WithTimeout(ctx, d.c.Timeout)
	defer cancel()
	for {
		q, mine, why := one.host.begin(to.Key(), d.c.Now())
		switch {
		case why != nil:
			return answer{outcome: unreachable, err: why}
		case mine:
			return d.lead(ctx, limited, one, to, q)
		}
		select {
		case <-limited.Done():
			return answer{outcome: unreachable, busy: true, err: errBusy}
		case <-q.done:
		}
		if !q.left {
			return q.answer
		}
	}
}

// begin returns the question under way about key, or a new one, which is mine; why
// is not nil while the host is left alone.
func (h *host) begin(key string, now time.Time) (q *question, mine bool, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Before(h.alone) {
		return nil, false, fmt.Errorf("left alone for a moment: %w", h.why)
	}
	if q := h.asking[key]; q != nil {
		return q, false, nil
	}
	q = &question{done: make(chan struct{})}
	h.asking[key] = q
	return q, true, nil
}

// lead asks, and gives the answer to those who wait for it. ctx is who asks, limited
// the same with the time to wait for a turn.
func (d *Domains) lead(ctx, limited context.Context, one *domain, to address.ForwardPath, q *question) answer {
	h := &one.host
	q.left = true
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.asking, to.Key())
		close(q.done)
	}()
	select {
	case h.turns <- struct{}{}:
	case <-limited.Done():
		if ctx.Err() != nil {
			return answer{outcome: unreachable, busy: true, err: errGone}
		}
		q.left, q.answer = false, answer{outcome: unreachable, busy: true, err: errBusy}
		return q.answer
	}
	defer func() { <-h.turns }()
	asking, cancel := context.WithTimeout(ctx, d.c.Timeout)
	defer cancel()
	began := time.Now()
	a, down := d.question(asking, one, to)
	if ctx.Err() != nil { // not the host's fault
		return answer{outcome: unreachable, busy: true, err: errGone}
	}
	if down {
		h.leaveAlone(d.c.Now().Add(d.c.Pause), a.err)
	}
	d.asked(ctx, to, a, time.Since(began))
	q.left, q.answer = false, a
	return a
}

// leaveAlone keeps further questions away until then: each of them would wait as long.
func (h *host) leaveAlone(until time.Time, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alone, h.why = until, why
}

// asked tells log and metrics of an answer.
func (d *Domains) asked(ctx context.Context, to address.ForwardPath, a answer, took time.Duration) {
	if f := d.c.Hooks.Asked; f != nil {
		f(a.outcome.String(), took)
	}
	d.c.Logger.LogAttrs(ctx, slog.LevelInfo, "recipient verified", slog.String("forward_path", to.String()),
		slog.String("outcome", a.outcome.String()), slog.Duration("took", took), slog.Any("error", a.err))
}

// question holds one session with the domain's host; down says that it can't be reached.
func (d *Domains) question(ctx context.Context, one *domain, to address.ForwardPath) (a answer, down bool) {
	s, err := d.open(ctx, one)
	if err != nil {
		return answer{outcome: unreachable, err: err}, true
	}
	// A null reverse-path, as bounces have it: the question must not lead to one back.
	out, err := s.Probe(ctx, "", to.Address().String())
	if s.Usable() {
		_ = s.Quit(ctx) // nothing depends on it
	}
	a = judge(out, err)
	return a, a.outcome == unreachable
}

// open connects to the first of the host's addresses that speaks SMTP.
func (d *Domains) open(ctx context.Context, one *domain) (*smtpclient.Session, error) {
	addrs, err := d.c.Finder.Find(ctx, one.Name, one.Host)
	if err != nil {
		return nil, fmt.Errorf("find the host of %s: %w", one.Name, err)
	}
	var errs []error
	for _, a := range addrs[:min(len(addrs), maxAddrs)] {
		s, err := d.connect(ctx, a, true)
		if e, ok := errors.AsType[*smtpclient.Error](err); ok && (e.Stage == smtpclient.StageTLS || e.Stage == smtpclient.StageStartTLS) {
			s, err = d.connect(ctx, a, false)
		}
		if err == nil {
			return s, nil
		}
		errs = append(errs, fmt.Errorf("ask %s: %w", a, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("the host of %s has no address", one.Name)
	}
	return nil, errors.Join(errs...)
}

// connect opens a session, under TLS when secure is set and the host offers it. What
// is asked is no secret that would be worth a certificate: TLS is opportunistic.
func (d *Domains) connect(ctx context.Context, to netip.AddrPort, secure bool) (*smtpclient.Session, error) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := d.c.Dialer.DialContext(dialing, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	s, err := smtpclient.Open(ctx, conn, smtpclient.Config{Hello: d.c.Hello, Timeouts: smtpclient.Timeouts{
		Greeting: replyTimeout, Hello: replyTimeout, TLS: replyTimeout, Mail: replyTimeout, Rcpt: replyTimeout, Quit: time.Second}})
	if err != nil || !secure || !s.Extensions().StartTLS {
		return s, err
	}
	if err := s.StartTLS(ctx, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}); err != nil { //nolint:gosec // opportunistic, see above
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// judge says what a probe's outcome means for the recipient.
func judge(out smtpclient.RecipientOutcome, err error) answer {
	if missing, ok := errors.AsType[*smtpclient.Unsupported](err); ok {
		return answer{outcome: unknown, subject: 6, detail: 7, err: missing} // RFC 6531 §3.5
	}
	if e, ok := errors.AsType[*smtpclient.Error](err); ok && e.Local {
		return answer{outcome: deferred, err: err}
	}
	if err != nil {
		return answer{outcome: unreachable, err: err}
	}
	r := out.Reply
	a := answer{outcome: deferred, subject: code(r.Subject), detail: code(r.Detail), err: &smtp.Error{Reply: r}}
	switch {
	case out.Accepted:
		return answer{outcome: good}
	case out.Stage == smtpclient.StageMail: // it says nothing of the recipient
		a.subject, a.detail = 0, 0
	case r.Code/100 != 5 || !r.Plain && r.Subject == 7: // policy is about us
	default:
		a.outcome, a.lasting = unknown, r.Plain || r.Subject == 1 || r.Subject == 2 && r.Detail != 2
		if r.Plain {
			a.subject, a.detail = 1, 1
		}
	}
	return a
}

// code is a part of an enhanced status code (RFC 3463 §2: three digits).
func code(n int) uint16 { return uint16(max(0, min(n, 999))) } //nolint:gosec // bounded
