package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
)

// elsewhere is all other mail servers of the world, as the demo has them: it takes
// mail, says so, and throws it away. Nothing that is sent in a demo leaves the machine.
type elsewhere struct {
	mu  sync.Mutex
	out io.Writer
}

// Local-parts that elsewhere does not take mail for.
const (
	nobodyElsewhere = "nobody" // refused for good
	busyElsewhere   = "busy"   // refused for now
)

// startElsewhere listens at a UNIX socket; what it takes is told on out. end, which is
// never nil, stops it and waits.
func startElsewhere(ctx context.Context, socket string, out io.Writer) (end func() error, err error) {
	none := func() error { return nil }
	s, err := smtpserver.New(smtpserver.Config{Hostname: "elsewhere.test", Service: &elsewhere{out: out}})
	if err != nil {
		return none, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return none, fmt.Errorf("listen as all other servers: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the demo's server leaves first
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	return func() error {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("play all other servers: %w", err)
		}
		return nil
	}, nil
}

// Begin implements smtpserver.Service.
func (e *elsewhere) Begin(_ context.Context, _ *smtpserver.Session, env envelope.Envelope) (smtpserver.Transaction, error) {
	return &elsewhereMail{elsewhere: e, env: env}, nil
}

// elsewhereMail is a transaction of elsewhere.
type elsewhereMail struct {
	*elsewhere
	env envelope.Envelope
	to  []envelope.Recipient
}

// Rcpt implements smtpserver.Transaction.
func (m *elsewhereMail) Rcpt(_ context.Context, r envelope.Recipient) error {
	switch r.ForwardPath.Address().Local() {
	case nobodyElsewhere:
		return smtp.Refuse(550, 1, 1, "We have nobody of that name")
	case busyElsewhere:
		return smtp.Refuse(450, 2, 1, "We are busy; come again")
	}
	m.to = append(m.to, r)
	return nil
}

// Data implements smtpserver.Transaction.
func (m *elsewhereMail) Data(_ context.Context, msg io.Reader) (smtpserver.Outcome, error) {
	n, err := io.Copy(io.Discard, msg)
	if err != nil {
		return smtpserver.Outcome{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.to {
		fmt.Fprintf(m.out, "Mail for %s has left the server (%d octets from %s) and is thrown away here.\n", r.ForwardPath, n, m.env.ReversePath)
	}
	return smtpserver.Outcome{Reply: smtp.Reply{Code: 250, Text: "Thrown away: this is a demo"}}, nil
}

// Abort implements smtpserver.Transaction.
func (m *elsewhereMail) Abort() {}
