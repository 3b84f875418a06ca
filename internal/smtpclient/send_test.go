package smtpclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/smtpclient"
)

var everything = []string{"PIPELINING", "SIZE 100000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "DELIVERBY 60", "MT-PRIORITY MIXER",
	"FUTURERELEASE 3600 2030-01-01T00:00:00Z"}

// TestParameters: what a message asks for is said when it is offered; what it needs and
// is not offered is refused before anything is sent.
func TestParameters(t *testing.T) {
	t.Parallel()
	full := func() *smtpclient.Message {
		m := letter("Subject: x\r\n\r\nx\r\n", "zoë@peer.example")
		m.ReversePath, m.SMTPUTF8, m.Body = "ß@us.example", true, envelope.Body8BitMIME
		m.Return, m.EnvelopeID, m.HasPriority, m.Priority = envelope.ReturnHeaders, "id=1+2", true, -3
		m.DeliverBy = smtpclient.DeliverBy{Mode: envelope.ByReturn, Seconds: 120, Trace: true}
		m.HoldFor = 90 * time.Second
		m.Recipients[0].Notify = envelope.NotifySuccess | envelope.NotifyDelay
		m.Recipients[0].Original = envelope.OriginalRecipient{Type: "utf-8", Address: "zoë@peer.example"}
		return m
	}
	for _, tt := range []struct {
		name   string
		offer  []string
		change func(*smtpclient.Message)
		mail   string // parameters
		rcpt   string
		missed string
	}{
		{name: "all", offer: everything,
			mail: "SIZE=17 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+3D1+2B2 MT-PRIORITY=-3 BY=120;RT HOLDFOR=90", rcpt: "NOTIFY=SUCCESS,DELAY ORCPT=utf-8;zoë@peer.example"},
		{name: "none, and none needed", offer: []string{}, change: func(m *smtpclient.Message) {
			m.ReversePath, m.SMTPUTF8, m.Body, m.HoldFor, m.DeliverBy.Mode = "", false, envelope.Body7Bit, 0, envelope.ByNotify
			m.Recipients[0].ForwardPath = "zoe@peer.example"
		}},
		{name: "ASCII path of a UTF-8 address", offer: everything, change: func(m *smtpclient.Message) {
			*m = *letter("x\r\n", "zoe@peer.example")
			m.Recipients[0].Original = envelope.OriginalRecipient{Type: "utf-8", Address: "zoë@peer.example"}
		}, mail: "SIZE=3", rcpt: `ORCPT=utf-8;zo\x{EB}@peer.example`},
		{name: "no SMTPUTF8", offer: []string{"8BITMIME"}, missed: "SMTPUTF8"},
		{name: "no 8BITMIME", offer: []string{"SMTPUTF8"}, missed: "8BITMIME"},
		{name: "no DELIVERBY", offer: []string{"SMTPUTF8", "8BITMIME"}, missed: "DELIVERBY"},
		{name: "no FUTURERELEASE", offer: []string{"SMTPUTF8", "8BITMIME", "DELIVERBY"}, missed: "FUTURERELEASE"},
		{name: "held too long", offer: everything, change: func(m *smtpclient.Message) { m.HoldFor = 2 * time.Hour }, missed: "FUTURERELEASE"},
		{name: "REQUIRETLS without TLS", offer: append([]string{"REQUIRETLS"}, everything...), change: func(m *smtpclient.Message) { m.RequireTLS = true }, missed: "REQUIRETLS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := peer.Start(t, peer.Config{Extensions: tt.offer})
			s := open(t, p.Dial(), smtpclient.Config{})
			m := full()
			if tt.change != nil {
				tt.change(m)
			}
			_, err := s.Send(t.Context(), m)
			missing, _ := errors.AsType[*smtpclient.Unsupported](err)
			switch {
			case tt.missed != "":
				if missing == nil || missing.Extension != tt.missed || !s.Usable() || p.Seen(peer.Mail) != 0 {
					t.Errorf("got %v, usable %v, %d MAIL", err, s.Usable(), p.Seen(peer.Mail))
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			got := p.Messages()[0]
			if got.Params != tt.mail || got.Rcpts[0].Params != tt.rcpt || got.From != m.ReversePath {
				t.Errorf("MAIL <%s> %s, RCPT %s\nwant %s, RCPT %s", got.From, got.Params, got.Rcpts[0].Params, tt.mail, tt.rcpt)
			}
		})
	}
}

// TestArguments: nothing that a caller gives breaks out of its command.
func TestArguments(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*smtpclient.Message){
		"CRLF in a path":      func(m *smtpclient.Message) { m.Recipients[0].ForwardPath = "a@b.example>\r\nRCPT TO:<c@d.example" },
		"bracket in a path":   func(m *smtpclient.Message) { m.Recipients[0].ForwardPath = "a@b.example> NOTIFY=NEVER" },
		"control in a path":   func(m *smtpclient.Message) { m.ReversePath = "a\x00@b.example" },
		"8-bit without UTF8":  func(m *smtpclient.Message) { m.ReversePath = "ß@b.example" },
		"null forward-path":   func(m *smtpclient.Message) { m.Recipients[0].ForwardPath = "" },
		"long path":           func(m *smtpclient.Message) { m.ReversePath = strings.Repeat("a", 2000) + "@b.example" },
		"CRLF in ENVID":       func(m *smtpclient.Message) { m.EnvelopeID = "a\r\nb" },
		"blank in ORCPT type": func(m *smtpclient.Message) { m.Recipients[0].Original.Type = "rfc822 X" },
		"priority":            func(m *smtpclient.Message) { m.Priority = 10 },
		"nobody":              func(m *smtpclient.Message) { m.Recipients = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := peer.Start(t, peer.Config{})
			s := open(t, p.Dial(), smtpclient.Config{})
			m := letter("x\r\n", "a@peer.example")
			change(m)
			if _, err := s.Send(t.Context(), m); !errors.Is(err, smtpclient.ErrArgument) || !s.Usable() || p.Seen(peer.Mail) != 0 {
				t.Errorf("got %v, usable %v", err, s.Usable())
			}
		})
	}
	if _, err := smtpclient.Open(t.Context(), peer.Start(t, peer.Config{}).Dial(), smtpclient.Config{Hello: "us\r\nMAIL"}); !errors.Is(err, smtpclient.ErrArgument) {
		t.Errorf("name with CRLF: %v", err)
	}
	p := peer.Start(t, peer.Config{})
	m := letter("x\r\n", `"a>b\"c"@peer.example`, "Postmaster")
	if o, err := open(t, p.Dial(), smtpclient.Config{}).Send(t.Context(), m); err != nil || !o.Recipients[1].Accepted {
		t.Errorf("quoted local-part and Postmaster: %v, %s", err, outcome(o))
	}
}

// TestWithdrawn: a message whose data or Commit fail reaches nobody, and nobody else is blamed.
func TestWithdrawn(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	data := strings.Repeat("0123456789012345678901234567890123456789\r\n", 50)
	for _, mode := range [][]string{{}, {"PIPELINING"}, {"CHUNKING"}, {"PIPELINING", "CHUNKING"}} {
		for name, tt := range map[string]struct {
			change func(*smtpclient.Message)
			want   error
		}{
			"Open":    {func(m *smtpclient.Message) { m.Open = func() (io.ReadCloser, error) { return nil, boom } }, boom},
			"Commit":  {func(m *smtpclient.Message) { m.Commit = func() error { return boom } }, boom},
			"read":    {func(m *smtpclient.Message) { m.Open = failing(data, boom) }, boom},
			"short":   {func(m *smtpclient.Message) { m.Size++ }, smtpclient.ErrLength},
			"long":    {func(m *smtpclient.Message) { m.Size-- }, smtpclient.ErrLength},
			"bare LF": {func(m *smtpclient.Message) { m.Open = failing(data[:len(data)-3]+"5\n\n", io.EOF) }, smtpclient.ErrBareLineEnd},
			"bare CR": {func(m *smtpclient.Message) { m.Open = failing("\r"+data[1:], io.EOF) }, smtpclient.ErrBareLineEnd},
			"never":   {func(m *smtpclient.Message) { m.Open = failing(data, nil) }, io.ErrNoProgress},
		} {
			for _, octets := range []int{len(data), 3 << 20} {
				t.Run(fmt.Sprint(mode, name, octets), func(t *testing.T) {
					t.Parallel()
					if octets > len(data) && name != "Commit" && name != "short" && name != "long" {
						t.Skip("one size is enough")
					}
					p := peer.New(peer.Config{Extensions: mode})
					s := open(t, p.Dial(), smtpclient.Config{})
					m := letter(strings.Repeat(data, octets/len(data)), "a@peer.example")
					tt.change(m)
					o, err := s.Send(t.Context(), m)
					e, _ := errors.AsType[*smtpclient.Error](err)
					if e == nil || !e.Local || e.Lost || !errors.Is(err, tt.want) || o.Recipients[0].Settled() {
						t.Errorf("got %v, %s; want %v", err, outcome(o), tt.want)
					}
					_ = s.Close()
					p.Close()
					if n := len(p.Messages()); n != 0 {
						t.Errorf("server took %d messages", n)
					}
				})
			}
		}
	}
}

// failing gives data and then err, or, when that is nil, nothing for ever.
func failing(data string, err error) func() (io.ReadCloser, error) {
	r := io.Reader(strings.NewReader(data))
	return func() (io.ReadCloser, error) {
		return io.NopCloser(readerFunc(func(b []byte) (int, error) {
			n, _ := r.Read(b)
			if n == 0 {
				return 0, err
			}
			return n, nil
		})), nil
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestSizes sends messages around every buffer's edge in every way; they arrive as they are.
func TestSizes(t *testing.T) {
	t.Parallel()
	for _, mode := range [][]string{{}, {"PIPELINING"}, {"CHUNKING"}, {"PIPELINING", "CHUNKING"}} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			t.Parallel()
			p := peer.Start(t, peer.Config{Extensions: mode})
			s := open(t, p.Dial(), smtpclient.Config{})
			for i, n := range []int{2, 3, 100, 20_477, 20_478, 20_479, 20_480, 20_481, 20_482, 32_757, 32_758, 32_759, 32_760, 32_761, 32_768, 65_520, 65_536, 1 << 20, 1<<20 + 1, 2 << 20, 2_500_000} {
				line := []string{".", "0123456789\r\n.", ".\r\n"}[i%3]
				data := strings.Repeat(line, n/len(line)+1)[:n-2] + "\r\n"
				data = strings.ReplaceAll(data, "\r\r\n", "x\r\n")
				m := letter(data, "a@peer.example")
				if i%2 == 0 {
					m.Size = 0 // unknown
				}
				if o, err := s.Send(t.Context(), m); err != nil || !o.Recipients[0].Accepted {
					t.Fatalf("%d octets: %v, %s", n, err, outcome(o))
				}
				got := p.Messages()
				if last := got[len(got)-1]; !bytes.Equal(last.Data, []byte(data)) {
					t.Errorf("%d octets: server got %d others", n, len(last.Data))
				}
			}
		})
	}
}

// TestManyRecipients goes over the bound of a flight, with some refused.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	for _, mode := range [][]string{{"PIPELINING"}, {"PIPELINING", "CHUNKING"}, {"PIPELINING", "LIMITS RCPTMAX=450"}} {
		p := peer.Start(t, peer.Config{Extensions: mode, Rules: []peer.Rule{{Stage: peer.Rcpt, Match: "7@", Do: peer.Reply("550 5.1.1 no sevens")}}})
		s := open(t, p.Dial(), smtpclient.Config{})
		var to []string
		for i := range 500 {
			to = append(to, fmt.Sprintf("recipient-%d@peer.example", i))
		}
		o, err := s.Send(t.Context(), letter("x\r\n", to...))
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range o.Recipients {
			want := "end of data 250+"
			switch {
			case i >= 450 && len(mode[1:]) > 0 && mode[1] != "CHUNKING":
				want = "RCPT 452!"
			case i%10 == 7:
				want = "RCPT 550"
			}
			if got := outcome(smtpclient.Outcome{Recipients: o.Recipients[i : i+1]}); got != want {
				t.Errorf("%v: recipient %d: %s, want %s (%v)", mode, i, got, want, r.Reply)
			}
		}
	}
}

// TestFlights counts writes: a message in a session that is open costs two, or one by BDAT.
func TestFlights(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]int{"PIPELINING": 2, "CHUNKING": 1, "": 4} {
		ext := []string{"PIPELINING", mode}
		if mode == "" {
			ext = []string{}
		}
		p := peer.Start(t, peer.Config{Extensions: ext})
		c := &counting{Conn: p.Dial()}
		s, err := smtpclient.Open(t.Context(), c, smtpclient.Config{Hello: "us.example"})
		if err != nil {
			t.Fatal(err)
		}
		c.writes, c.deadlines = 0, 0
		if _, err := s.Send(t.Context(), letter(strings.Repeat("0123456789\r\n", 340), "a@peer.example")); err != nil {
			t.Fatal(err)
		}
		if c.writes != want || c.deadlines > want+1 {
			t.Errorf("%q: %d writes and %d deadlines, want %d", mode, c.writes, c.deadlines, want)
		}
		_ = s.Close()
	}
}

// TestFull: MAILMAX is minded.
func TestFull(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Extensions: []string{"LIMITS MAILMAX=2"}})
	s := open(t, p.Dial(), smtpclient.Config{})
	for i, want := range []bool{false, true} {
		if _, err := s.Send(t.Context(), letter("x\r\n", "a@peer.example")); err != nil || s.Full() != want {
			t.Errorf("behind message %d: full %v, %v", i, s.Full(), err)
		}
	}
}

// TestContext: the end of the context ends waiting at once, wherever it is.
func TestContext(t *testing.T) {
	t.Parallel()
	for _, stage := range []peer.Stage{peer.Greeting, peer.Hello, peer.Mail, peer.Rcpt, peer.Data, peer.Body, peer.Final} {
		t.Run(stage.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: stage, Do: peer.Stall()}}})
				ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
				defer cancel()
				began := time.Now()
				s, err := smtpclient.Open(ctx, p.Dial(), smtpclient.Config{Hello: "us.example"})
				if err == nil {
					defer s.Close()
					_, err = s.Send(ctx, letter(strings.Repeat("0123456789\r\n", 30_000), "a@peer.example"))
					if s.Usable() {
						t.Error("session goes on")
					}
				}
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 7*time.Second {
					t.Errorf("behind %v: %v", time.Since(began), err)
				}
			})
		})
	}
}

// TestTransactionTime: a tarpit that keeps each timeout does not keep the transaction's.
func TestTransactionTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := peer.Start(t, peer.Config{Extensions: []string{}, Rules: []peer.Rule{{Stage: peer.Rcpt, Do: peer.Late(4 * time.Minute)}}})
		s := open(t, p.Dial(), smtpclient.Config{})
		to := make([]string, 20)
		for i := range to {
			to[i] = fmt.Sprintf("r%d@peer.example", i)
		}
		began := time.Now()
		_, err := s.Send(t.Context(), letter("x\r\n", to...))
		if e, _ := errors.AsType[*smtpclient.Error](err); e == nil || e.Stage != smtpclient.StageRcpt || time.Since(began) != smtpclient.TransactionTimeout {
			t.Errorf("behind %v: %v", time.Since(began), err)
		}
	})
}

// TestMinRate: a server that reads drop by drop is left when it falls behind the least speed.
func TestMinRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Body, Do: peer.SlowRead(10 * time.Millisecond)}}}) // 100 octets a second
		s := open(t, p.Dial(), smtpclient.Config{Timeouts: smtpclient.Timeouts{MinRate: 1000}})
		began := time.Now()
		_, err := s.Send(t.Context(), letter(strings.Repeat("0123456789\r\n", 100_000), "a@peer.example"))
		e, _ := errors.AsType[*smtpclient.Error](err)
		if e == nil || e.Stage != smtpclient.StageBody || e.Lost || time.Since(began) > 10*time.Minute {
			t.Errorf("behind %v: %v", time.Since(began), err)
		}
	})
}

// TestHELO: a server that knows no EHLO, and one that leaves at it.
func TestHELO(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{NoEHLO: true})
	if s := open(t, p.Dial(), smtpclient.Config{}); s.Extensions().Name != "peer.example" || s.Extensions().Pipelining {
		t.Errorf("%+v", s.Extensions())
	}
	p = peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Hello, Match: "EHLO", Do: peer.Drop()}}})
	_, err := smtpclient.Open(t.Context(), p.Dial(), smtpclient.Config{Hello: "us.example"})
	if e, _ := errors.AsType[*smtpclient.Error](err); e == nil || e.Stage != smtpclient.StageHello || !errors.Is(err, smtpclient.ErrHangup) {
		t.Errorf("got %v", err)
	}
	s := open(t, p.Dial(), smtpclient.Config{HELO: true})
	if _, err := s.Send(t.Context(), letter("x\r\n", "a@peer.example")); err != nil {
		t.Error(err)
	}
}

// TestClosed: a session that is over says so.
func TestClosed(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{})
	s := open(t, p.Dial(), smtpclient.Config{})
	if err := s.Quit(t.Context()); err != nil {
		t.Errorf("QUIT: %v", err)
	}
	_, err := s.Send(t.Context(), letter("x\r\n", "a@peer.example"))
	for _, err := range []error{err, s.Reset(t.Context()), s.Quit(t.Context())} {
		if !errors.Is(err, smtpclient.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	if err := s.Close(); err != nil || s.Usable() {
		t.Errorf("Close: %v", err)
	}
}

// TestLongWords: what is kept for each recipient is bounded though replies are long.
func TestLongWords(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Extensions: []string{"PIPELINING"}, Rules: []peer.Rule{
		{Stage: peer.Rcpt, Do: peer.Reply("550 5.1.1 " + strings.Repeat("ż", 30_000))}}})
	s := open(t, p.Dial(), smtpclient.Config{})
	out, err := s.Send(t.Context(), letter("Subject: x\r\n\r\nx\r\n", "a@peer.example", "b@peer.example"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out.Recipients {
		if n := len(r.Reply.Text); r.Reply.Code != 550 || n > smtpclient.MaxText || n < smtpclient.MaxText-4 || strings.Trim(r.Reply.Text, "ż") != "" {
			t.Errorf("%d octets of %d are kept", n, r.Reply.Code)
		}
	}
	for _, stage := range []peer.Stage{peer.Greeting, peer.Hello} {
		p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: stage, Do: peer.Reply("554 5.7.1 " + strings.Repeat("x", 60_000))}}})
		_, err := smtpclient.Open(t.Context(), p.Dial(), smtpclient.Config{Hello: "us.example"})
		if e, ok := errors.AsType[*smtpclient.Error](err); !ok || e.Reply == nil || len(e.Reply.Text) != smtpclient.MaxText {
			t.Errorf("%v: %.100v", stage, err)
		}
	}
}
