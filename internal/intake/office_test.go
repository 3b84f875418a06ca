package intake_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/trace"
)

// bureau is an office at spam@example.org for our own people.
type bureau struct {
	got []string
	err error
}

func (b *bureau) Takes(_ context.Context, to address.Address, sender envelope.AccountID) (string, bool, error) {
	return "learned", to.Local() == "spam" && sender != 0, nil
}

func (b *bureau) Take(_ context.Context, l intake.Letter) error {
	octets, err := io.ReadAll(io.NewSectionReader(l.Message, 0, l.Size))
	b.got = append(b.got, l.To.String()+" "+l.Login+" "+string(octets))
	return errors.Join(err, b.err)
}

// TestOffice: mail for the server's own addresses is handed over, has a fate, and is not kept.
func TestOffice(t *testing.T) {
	t.Parallel()
	b := &bureau{}
	h := newHouse(t, b)
	env := envelope.Envelope{ReversePath: intaketest.From(t, "ala@example.org"), Origin: envelope.Origin{Account: 1, Login: "ala", Protocol: "ESMTPSA"}}
	send := func(env envelope.Envelope) (rcpt, data error) {
		tx, err := h.Begin(env, intake.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		if rcpt = tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "spam@example.org"), Notify: envelope.NotifySuccess}); rcpt != nil {
			return rcpt, nil
		}
		_, data = tx.Data(t.Context(), strings.NewReader("Subject: x\r\n\r\nbody\r\n"))
		return nil, data
	}
	if rcpt, data := send(env); rcpt != nil || data != nil {
		t.Fatalf("got %v, %v", rcpt, data)
	}
	got := h.accepter.Accepted()
	if len(got) != 1 || len(got[0].Locals) != 1 || got[0].Locals[0].State != trace.Discarded || got[0].Locals[0].Why != "learned" || len(got[0].Also) != 0 {
		t.Errorf("accepted %+v", got)
	}
	if len(b.got) != 1 || b.got[0] != "spam@example.org ala Subject: x\r\n\r\nbody\r\n" {
		t.Errorf("the office got %q", b.got)
	}
	b.err = errors.New("the database is away")
	if _, data := send(env); intake.CodeOf(data) != 451 || len(h.accepter.Accepted()) != 1 {
		t.Errorf("an office that fails: %v", data)
	}
	env.Origin.Account = 0
	if rcpt, _ := send(env); intake.CodeOf(rcpt) != 550 {
		t.Errorf("a stranger: %v", rcpt)
	}
}
