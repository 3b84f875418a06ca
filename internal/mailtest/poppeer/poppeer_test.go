package poppeer_test

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/poppeer"
)

// talk says text at once and returns all that comes until the server ends the connection or
// has nothing more to say.
func talk(t *testing.T, p *poppeer.Peer, text string) []string {
	t.Helper()
	conn := p.Dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Minute))
	all, _ := io.ReadAll(conn) // the deadline is an error
	return strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(all), "\r\n", "\n"), "\n"), "\n")
}

const enter = "USER us\nPASS secret\n"

var entered = []string{"+OK peer.example POP3", "+OK password?", "+OK maildrop is yours"}

// TestPeer is the server as it ought to be, and then as it is told to be.
func TestPeer(t *testing.T) {
	t.Parallel()
	small := []poppeer.Message{{ID: "a", Data: []byte("S: 1\r\n\r\n.dot\r\nx\r\n")}, {ID: "b", Data: []byte("S: 2\r\n\r\ny")}}
	for _, tc := range []struct {
		name  string
		rule  poppeer.Rule
		say   string
		want  []string
		gone  []string
		given map[string]int
	}{
		{name: "usual", say: "STAT\nLIST\nUIDL\nLIST 2\nRETR 1\nTOP 1 1\nRETR 2\nDELE 1\nDELE 1\nLIST\nQUIT\n",
			want: []string{"+OK 2 26", "+OK listing follows", "1 17", "2 9", ".", "+OK listing follows", "1 a", "2 b", ".", "+OK 2 9", "+OK 17 octets", "S: 1", "", "..dot", "x", ".",
				"+OK 14 octets", "S: 1", "", "..dot", ".", "+OK 9 octets", "S: 2", "", "y", ".", "+OK marked", "-ERR no such message", "+OK listing follows", "2 9", ".", "+OK goodbye"},
			gone: []string{"a"}, given: map[string]int{"a": 1, "b": 1}},
		{name: "without QUIT", say: "DELE 1\n", want: []string{"+OK marked"}},
		{name: "RSET", say: "DELE 1\nRSET\nQUIT\n", want: []string{"+OK marked", "+OK forgotten", "+OK goodbye"}},
		{name: "refused", rule: poppeer.Rule{Stage: poppeer.Retr, Match: "2", Do: poppeer.Reply("-ERR [SYS/TEMP] no")}, say: "RETR 2\nQUIT\n", want: []string{"-ERR [SYS/TEMP] no", "+OK goodbye"}},
		{name: "refused once", rule: poppeer.Rule{Stage: poppeer.Noop, Nth: 2, Do: poppeer.Reply("-ERR")}, say: "NOOP\nNOOP\nNOOP\nQUIT\n", want: []string{"+OK nothing done", "-ERR", "+OK nothing done", "+OK goodbye"}},
		{name: "cut", rule: poppeer.Rule{Stage: poppeer.Body, Match: "1", Do: poppeer.Drop().AfterOctets(6)}, say: "RETR 1\n", want: []string{"+OK 17 octets", "S: 1"}},
		{name: "no dot", rule: poppeer.Rule{Stage: poppeer.Body, Do: poppeer.NoDot()}, say: "RETR 2\nQUIT\n", want: []string{"+OK 9 octets", "S: 2", "", "y", "+OK goodbye"}, given: map[string]int{"b": 1}},
		{name: "reply without text", rule: poppeer.Rule{Stage: poppeer.Retr, Do: poppeer.Reply("+OK")}, say: "RETR 2\nQUIT\n", want: []string{"+OK", "+OK goodbye"}},
		{name: "same ids", rule: poppeer.Rule{Stage: poppeer.Uidl, Do: poppeer.SameIDs()}, say: "UIDL\nQUIT\n", want: []string{"+OK listing follows", "1 1234", "2 1234", ".", "+OK goodbye"}},
		{name: "twice", rule: poppeer.Rule{Stage: poppeer.List, Do: poppeer.Twice()}, say: "LIST\nQUIT\n", want: []string{"+OK listing follows", "1 17", "1 17", "2 9", ".", "+OK goodbye"}},
		{name: "once more", rule: poppeer.Rule{Stage: poppeer.Dele, Do: poppeer.Extra()}, say: "DELE 2\nQUIT\n", want: []string{"+OK marked", "+OK once more", "+OK goodbye"}, gone: []string{"b"}},
		{name: "QUIT refused", rule: poppeer.Rule{Stage: poppeer.Quit, Do: poppeer.Reply("-ERR some are left").Removing(1)}, say: "DELE 1\nDELE 2\nQUIT\n", want: []string{"+OK marked", "+OK marked", "-ERR some are left"}, gone: []string{"a"}},
		{name: "QUIT lost", rule: poppeer.Rule{Stage: poppeer.Quit, Do: poppeer.Drop().Removing(-1)}, say: "DELE 1\nDELE 2\nQUIT\n", want: []string{"+OK marked", "+OK marked"}, gone: []string{"a", "b"}},
		{name: "QUIT lies", rule: poppeer.Rule{Stage: poppeer.Quit, Do: poppeer.Late(0).Removing(0)}, say: "DELE 1\nQUIT\n", want: []string{"+OK marked", "+OK goodbye"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := poppeer.Start(t, poppeer.Config{Messages: small, Rules: []poppeer.Rule{tc.rule}})
				if diff := cmp.Diff(append(entered[:3:3], tc.want...), talk(t, p, enter+tc.say)); diff != "" {
					t.Errorf("said (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tc.gone, p.Deleted()); diff != "" {
					t.Errorf("deleted (-want +got):\n%s", diff)
				}
				if given := p.Given(); tc.given != nil && cmp.Diff(tc.given, given) != "" {
					t.Errorf("given %v, want %v", given, tc.given)
				}
				if len(p.Messages()) != 2-len(tc.gone) {
					t.Errorf("%d messages are left", len(p.Messages()))
				}
			})
		})
	}
}

// TestExclusive lets one session at a time in, and lets the next see what the one before did.
func TestExclusive(t *testing.T) {
	t.Parallel()
	p := poppeer.Start(t, poppeer.Config{Messages: poppeer.Letters(1, 10), Exclusive: true})
	conn := p.Dial()
	if _, err := io.WriteString(conn, "USER us\r\nPASS secret\r\n"); err != nil {
		t.Fatal(err)
	}
	for r, n := bufio.NewReader(conn), 0; n < 3; n++ {
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if got := talk(t, p, enter+"QUIT\n"); got[2] != "-ERR [IN-USE] another session has it" {
		t.Errorf("a second session: %q", got)
	}
	_ = conn.Close()
	p.ChangeIDs(func(id string) string { return "new-" + id })
	if ids := p.Messages()[0].ID; ids != "new-id-1" || p.Connections() != 2 || p.Seen(poppeer.Pass) != 2 || len(p.Logins()) != 1 {
		t.Errorf("%s, %d connections, %v", ids, p.Connections(), p.Logins())
	}
}

// A server that breaks off in the middle of the second message, once.
func Example() {
	p := poppeer.New(poppeer.Config{Messages: poppeer.Letters(2, 10), Rules: []poppeer.Rule{
		{Stage: poppeer.Body, Match: "2", Times: 1, Do: poppeer.Drop().AfterOctets(20)},
	}})
	defer p.Close()
	conn := p.Dial()
	_, _ = io.WriteString(conn, "USER us\r\nPASS secret\r\nRETR 2\r\n")
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		fmt.Println(lines.Text())
	}
	fmt.Println(p.Given(), p.Deleted())
	// Output:
	// +OK peer.example POP3
	// +OK password?
	// +OK maildrop is yours
	// +OK 102 octets
	// Message-ID: <2@peer.
	// map[] []
}
