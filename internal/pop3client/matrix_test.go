package pop3client_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/pop3client"
)

var update = flag.Bool("update", false, "rewrite golden files")

// mode is a kind of session in which every stage meets every fault.
type mode struct {
	name   string
	server poppeer.Config
	skip   []poppeer.Stage
}

func modes(tlsConfig *tls.Config) []mode {
	tlsOnly := []poppeer.Stage{poppeer.Stls, poppeer.Handshake, poppeer.Auth, poppeer.UTF8}
	user := []poppeer.Stage{poppeer.User, poppeer.Pass}
	always := []poppeer.Stage{poppeer.Stat}
	return []mode{
		{"pipelining", poppeer.Config{Capabilities: []string{"TOP", "UIDL", "USER", "PIPELINING", "RESP-CODES"}}, slices.Concat(always, tlsOnly)},
		{"one by one", poppeer.Config{NoCAPA: true}, slices.Concat(always, tlsOnly)},
		{"TLS", poppeer.Config{TLS: tlsConfig, Mechanisms: []string{"SCRAM-SHA-256", "PLAIN"}}, slices.Concat(always, user)},
	}
}

// faults are what can happen at a stage.
func faults(stage poppeer.Stage) []poppeer.Fault {
	all := []poppeer.Fault{
		poppeer.Reply("-ERR no"), poppeer.Reply("-ERR [IN-USE] busy"), poppeer.Reply("-ERR [SYS/TEMP] later"), poppeer.Reply("-ERR [AUTH] who?"), poppeer.Reply("-ERR no").ThenDrop(),
		poppeer.Reply("+OK fine"), poppeer.Reply("+OK"), poppeer.Reply("+ "), poppeer.Reply("+ !"), poppeer.Reply("* OK IMAP4rev1"), poppeer.Reply(""), poppeer.Reply("+OK", "-ERR"), poppeer.Reply("."),
		poppeer.Stall(), poppeer.Late(time.Minute), poppeer.Late(time.Hour), poppeer.Drop(), poppeer.RST(), poppeer.Garbage(), poppeer.Flood(4_000), poppeer.Flood(100_000),
		poppeer.Endless(), poppeer.EndlessLine(), poppeer.Trickle(30 * time.Second), poppeer.Dripped(time.Second), poppeer.Extra(),
	}
	switch stage {
	case poppeer.Capa, poppeer.Retr, poppeer.Top, poppeer.Body:
		all = append(all, poppeer.NoDot(), poppeer.NoDot().ThenDrop())
	case poppeer.List, poppeer.Uidl:
		all = append(all, poppeer.NoDot(), poppeer.NoDot().ThenDrop(), poppeer.WrongSizes(), poppeer.Missing(), poppeer.Twice(), poppeer.Stranger(), poppeer.Backwards(), poppeer.SameIDs(),
			poppeer.ChangedIDs(), poppeer.BadIDs(), poppeer.NoIDs(), poppeer.EachLine("number 0", func(line string) string { return "0" + line[1:] }),
			poppeer.EachLine("minus", func(line string) string { return "-" + line }), poppeer.EachLine("huge", func(line string) string { return "99999999999" + line }))
	case poppeer.Quit:
		all = append(all, poppeer.Drop().Removing(1), poppeer.Drop().Removing(-1), poppeer.Reply("-ERR some are left").Removing(2), poppeer.Late(0).Removing(0))
	}
	return all
}

// TestMatrix lets every fault happen at every stage of every kind of session. What the
// client makes of it is a golden file; beside it these hold for each: what was taken for a
// whole message is the message, unless the server has put words of its own into it; nothing
// is removed that was not taken whole; if QUIT succeeds all that was marked is gone, unless
// the server lies; time and goroutines end (the bubble waits for them). Each runs in both
// orders; where it makes a difference whether the client has seen what a server sent too
// much, the file has both outcomes, the quick server's first.
func TestMatrix(t *testing.T) {
	t.Parallel()
	cert, pool := peer.Certificate(t, "peer.example")
	lines := make([][]string, 0, 64)
	t.Run("all", func(t *testing.T) {
		for _, m := range modes(&tls.Config{Certificates: []tls.Certificate{cert}}) {
			for _, stage := range poppeer.Stages() {
				if slices.Contains(m.skip, stage) {
					continue
				}
				all := faults(stage)
				lines = append(lines, make([]string, len(all)))
				out := lines[len(lines)-1]
				t.Run(m.name+" "+stage.String(), func(t *testing.T) {
					t.Parallel()
					for i, f := range all {
						var met [2]string
						for j, o := range []order{quickServer, slowServer} {
							synctest.Test(t, func(t *testing.T) {
								met[j] = meet(t, m, stage, f, o, &tls.Config{RootCAs: pool, ServerName: "peer.example"})
							})
						}
						if met[0] != met[1] {
							met[0] += " || " + met[1]
						}
						out[i] = fmt.Sprintf("%-10s %-9s %-28s %s\n", m.name, stage, name(f), met[0])
					}
				})
			}
		}
	})
	var got strings.Builder
	for _, l := range lines {
		got.WriteString(strings.Join(l, ""))
	}
	file := filepath.Join("testdata", "matrix.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("outcomes (-want +got), see -update:\n%s", diff)
	}
}

// name is a fault's, with what tells those of QUIT apart.
func name(f poppeer.Fault) string {
	text := f.String()
	if f.Delay > time.Minute {
		text += " an hour"
	}
	switch {
	case f.Removed > 0:
		return fmt.Sprintf("%s, %d removed", text, f.Removed)
	case f.Removed < 0 && !f.Usual:
		return text + ", all removed"
	case f.Removed == 0 && f.Usual && f.Edit == nil && !f.NoDot:
		return text + ", none removed"
	}
	return text
}

// octets is the size of the letters of which the maildrop has four.
const octets = 600

// trial is a session and what came of it.
type trial struct {
	t     *testing.T
	p     *poppeer.Peer
	whole []int // messages taken for whole, that are
	other []int // and those that are not
	quit  error
	left  bool // QUIT was said
}

// meet runs a session against the fault, once, and describes it.
func meet(t *testing.T, m mode, stage poppeer.Stage, f poppeer.Fault, o order, tlsConfig *tls.Config) string {
	t.Helper()
	rule := poppeer.Rule{Stage: stage, Times: 1, Do: f.AfterOctets(100)}
	switch stage {
	case poppeer.Retr, poppeer.Top, poppeer.Dele:
		rule.Match = "2"
	case poppeer.Body:
		rule.Nth = 6 // behind four TOPs and a RETR
	}
	m.server.Rules, m.server.Messages = []poppeer.Rule{rule}, poppeer.Letters(4, octets)
	p := poppeer.Start(t, m.server)
	began := time.Now()
	var d pop3client.Dialogue
	x := &trial{t: t, p: p}
	text := x.session(&ordered{Conn: p.Dial(), order: o}, m, tlsConfig, &d)
	took := time.Since(began)
	synctest.Wait() // the server may still be at it
	if took > 40*time.Minute {
		t.Errorf("%s %s %s: took %v", m.name, stage, f, took)
	}
	if n := len(d.Bytes()); n > pop3client.DialogueOctets+10 {
		t.Errorf("dialogue of %d octets", n)
	}
	if strings.Contains(d.String(), "c2VjcmV0") || strings.Contains(d.String(), "secret") || strings.Contains(d.String(), "Message-ID") {
		t.Errorf("secrets or messages in the dialogue:\n%s", d.String())
	}
	x.check(f)
	text += fmt.Sprintf(" got %d", x.whole)
	if len(x.other) > 0 {
		text += fmt.Sprintf(" other %d", x.other)
	}
	return fmt.Sprintf("%s gone %d %s", text, len(p.Deleted()), took.Round(time.Second))
}

// check holds the client's picture against the server's.
func (x *trial) check(f poppeer.Fault) {
	x.t.Helper()
	for _, id := range x.p.Deleted() {
		if i := slices.IndexFunc(x.whole, func(n int) bool { return fmt.Sprintf("id-%d", n) == id }); i < 0 {
			x.t.Errorf("%s: %s was removed and never whole", f, id)
		}
	}
	if len(x.other) > 0 && !f.NoDot && len(f.Raw) == 0 && len(f.Lines) == 0 && f.Flood == 0 {
		x.t.Errorf("%s: messages %d are not as they were sent", f, x.other)
	}
	if x.left && x.quit == nil && len(x.p.Deleted()) != len(x.whole) && f.Removed != 0 {
		x.t.Errorf("%s: QUIT succeeded with %d of %d removed", f, len(x.p.Deleted()), len(x.whole))
	}
}

// session fetches all, and deletes what came whole.
func (x *trial) session(conn net.Conn, m mode, tlsConfig *tls.Config, d *pop3client.Dialogue) string {
	ctx := x.t.Context()
	s, err := pop3client.Open(ctx, conn, pop3client.Config{Plaintext: m.server.TLS == nil, UTF8: true, MaxItems: 1000, MaxMessageOctets: 60_000, Dialogue: d})
	if err != nil {
		return "open: " + describe(err, nil)
	}
	defer s.Close()
	if m.server.TLS != nil {
		if err := s.StartTLS(ctx, tlsConfig); err != nil {
			return "tls: " + describe(err, s)
		}
	}
	if err := s.Login(ctx, us); err != nil {
		return "login: " + describe(err, s)
	}
	var words []string
	note := func(step string, err error) bool {
		if err != nil {
			words = append(words, step+": "+describe(err, s))
		}
		return s.Usable()
	}
	items, err := s.List(ctx)
	if !note("list", err) || err != nil {
		return strings.Join(words, ", ")
	}
	words = append(words, listed(items))
	if !note("top", s.Top(ctx, numbersOf(items), 0, func(_ int, r io.Reader) error { return nil })) ||
		!note("retr", s.Retrieve(ctx, numbersOf(items), x.take)) || !note("noop", s.Noop(ctx)) || !note("rset", s.Reset(ctx)) || !note("dele", s.Delete(ctx, x.whole)) {
		return strings.Join(words, ", ")
	}
	x.quit, x.left = s.Quit(ctx), true
	note("quit", x.quit)
	return strings.Join(words, ", ")
}

// take looks whether what came is the message.
func (x *trial) take(n int, r io.Reader) error {
	var b bytes.Buffer
	if _, err := io.Copy(&b, r); err != nil {
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			x.t.Errorf("message %d ends with %v", n, err)
		}
		return err
	}
	if letters := poppeer.Letters(4, octets); n <= len(letters) && bytes.Equal(b.Bytes(), letters[n-1].Data) {
		x.whole = append(x.whole, n)
	} else {
		x.other = append(x.other, n)
	}
	return nil
}

// listed tells what is odd in a listing of the four letters.
func listed(items []pop3client.Item) string {
	size := int64(len(poppeer.Letters(1, octets)[0].Data))
	sizes, ids, illegal, shared := 0, 0, 0, 0
	for _, it := range items {
		if it.Octets == size {
			sizes++
		}
		if it.UniqueID == fmt.Sprintf("id-%d", it.Number) {
			ids++
		}
		if it.Illegal {
			illegal++
		}
		if it.Shared {
			shared++
		}
	}
	if len(items) == 4 && sizes == 4 && ids == 4 && illegal+shared == 0 {
		return "ok"
	}
	return fmt.Sprintf("%d items (%d sizes, %d ids, %d illegal, %d shared)", len(items), sizes, ids, illegal, shared)
}

// describe names an error's command, kind and causes.
func describe(err error, s *pop3client.Session) string {
	text := "(" + pop3client.KindOf(err).String()
	var refusals pop3client.Refusals
	if errors.As(err, &refusals) {
		text += fmt.Sprintf(" %d refused", len(refusals))
	}
	if e, ok := errors.AsType[*pop3client.Error](err); ok {
		text += " " + e.Command
		if e.Refused {
			text += " -ERR"
		}
		if e.Code != "" {
			text += " " + e.Code
		}
	}
	for _, c := range []struct {
		err  error
		name string
	}{
		{os.ErrDeadlineExceeded, "timeout"}, {pop3client.ErrHangup, "hangup"}, {pop3client.ErrProtocol, "protocol"}, {pop3client.ErrUnsolicited, "unsolicited"},
		{pop3client.ErrInjected, "injected"}, {pop3client.ErrServerProof, "proof"}, {pop3client.ErrListing, "listing"}, {pop3client.ErrLimit, "limit"},
		{pop3client.ErrClosed, "closed"}, {pop3client.ErrNotRemoved, "not removed"}, {pop3client.ErrRemovalUnknown, "removal unknown"}, {io.ErrUnexpectedEOF, "cut"},
		{pop3client.ErrPlaintext, "plaintext"},
	} {
		if errors.Is(err, c.err) {
			text += " " + c.name
		}
	}
	text += ")"
	if s != nil && s.Usable() {
		text += " usable"
	}
	return text
}
