package smtpclient_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
	"poczta.example/poczta/internal/smtpserver"
)

// box is a Service of our own server that keeps what it gets; "full" is refused at the end
// in LMTP, "nobody" at RCPT.
type box struct {
	mu   sync.Mutex
	data []string
	env  []envelope.Envelope
}

type boxTransaction struct {
	box *box
	env envelope.Envelope
}

func (b *box) Begin(_ context.Context, _ *smtpserver.Session, env envelope.Envelope) (smtpserver.Transaction, error) {
	return &boxTransaction{b, env}, nil
}

func (x *boxTransaction) Rcpt(_ context.Context, r envelope.Recipient) error {
	if r.ForwardPath.Address().Local() == "nobody" {
		return smtp.Refuse(550, 1, 1, "No such user here")
	}
	x.env.Recipients = append(x.env.Recipients, r)
	return nil
}

func (x *boxTransaction) Data(_ context.Context, msg io.Reader) (smtpserver.Outcome, error) {
	data, err := io.ReadAll(msg)
	if err != nil {
		return smtpserver.Outcome{}, err
	}
	x.box.mu.Lock()
	defer x.box.mu.Unlock()
	x.box.data, x.box.env = append(x.box.data, string(data)), append(x.box.env, x.env)
	out := smtpserver.Outcome{Reply: smtp.Reply{Code: 250, Text: "Taken"}}
	for _, r := range x.env.Recipients {
		reply := out.Reply
		if r.ForwardPath.Address().Local() == "full" {
			reply = smtp.Reply{Code: 452, Subject: 2, Detail: 2, Text: "Mailbox is full"}
		}
		out.Recipients = append(out.Recipients, reply)
	}
	return out, nil
}

func (x *boxTransaction) Abort() {}

// TestOurServer sends to the server of this house: short and long, refused and accepted,
// by SMTP, where both know CHUNKING, and by LMTP.
func TestOurServer(t *testing.T) {
	t.Parallel()
	for _, lmtp := range []bool{false, true} {
		t.Run(fmt.Sprintf("LMTP %v", lmtp), func(t *testing.T) {
			t.Parallel()
			b := &box{}
			srv, err := smtpserver.New(smtpserver.Config{Hostname: "mx.example.org", Service: b, LMTP: lmtp, Limits: smtpserver.Limits{Message: 5 << 20}})
			if err != nil {
				t.Fatal(err)
			}
			conn := memconn.Serve(t, srv.Serve)
			t.Cleanup(func() { _ = srv.Shutdown(t.Context()) })
			s, err := smtpclient.Open(t.Context(), conn, smtpclient.Config{Hello: "us.example", LMTP: lmtp})
			if err != nil {
				t.Fatal(err)
			}
			last := "end of data 250+"
			if lmtp {
				last = "end of data 452"
			}
			for _, octets := range []int{400, 60_000, 3_000_000} {
				data := strings.Repeat(".0123456789012345678901234567890123456789\r\n", octets/43)
				m := letter(data, "a@example.org", "nobody@example.org", "full@example.org")
				m.Body, m.Recipients[0].Notify = envelope.Body8BitMIME, envelope.NotifySuccess
				m.Recipients[0].Original = envelope.OriginalRecipient{Type: "rfc822", Address: "a+b@example.org"}
				o, err := s.Send(t.Context(), m)
				if want := "end of data 250+, RCPT 550, " + last; err != nil || outcome(o) != want {
					t.Fatalf("%d octets: %v, %s, want %s", octets, err, outcome(o), want)
				}
				b.mu.Lock()
				got, env := b.data[len(b.data)-1], b.env[len(b.env)-1]
				b.mu.Unlock()
				if got != data || env.Recipients[0].Original != m.Recipients[0].Original || env.Recipients[0].Notify != envelope.NotifySuccess || env.Size != m.Size {
					t.Errorf("%d octets: server took %d, %+v", octets, len(got), env)
				}
			}
			if o, err := s.Send(t.Context(), letter("x\r\n", "nobody@example.org")); err != nil || outcome(o) != "RCPT 550" || !s.Usable() {
				t.Errorf("all refused: %v, %s", err, outcome(o))
			}
			if o, err := s.Send(t.Context(), letter(strings.Repeat("x\r\n", 2<<20), "a@example.org")); err != nil || outcome(o) != "MAIL 552!" {
				t.Errorf("too long: %v, %s", err, outcome(o))
			}
			if err := s.Quit(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
