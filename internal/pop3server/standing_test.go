package pop3server_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/sasl"
)

// register says what it is told to of every identity.
type register struct {
	mu    sync.Mutex
	fall  bool
	err   error
	asked int
}

// Stands implements pop3server.Identities.
func (r *register) Stands(context.Context, sasl.Identity) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return !r.fall, r.err
}

func (r *register) set(fall bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fall, r.err = fall, err
}

func (r *register) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// TestAccountChanges: a session ends soon after its account was disabled or got
// another password, and deletes nothing from that moment on.
func TestAccountChanges(t *testing.T) {
	t.Parallel()
	const gone = "-ERR [AUTH] your account has changed since you logged in; connect and log in again; nothing was deleted\r\n"
	tests := map[string]struct {
		fall  bool
		err   error
		say   string
		wait  time.Duration
		want  string
		asked int
		left  int // messages in the maildrop afterwards
		ended bool
	}{
		"stands":                     {say: "STAT\r\n", wait: time.Minute, want: "+OK 2 ", asked: 1, left: 2},
		"one question for a batch":   {say: "NOOP\r\nNOOP\r\nNOOP\r\n", wait: time.Minute, want: "+OK nothing done\r\n+OK nothing done\r\n+OK", asked: 1, left: 2},
		"no question so soon":        {fall: true, say: "NOOP\r\n", wait: time.Second, want: "+OK", left: 2},
		"falls":                      {fall: true, say: "RETR 1\r\nRETR 2\r\n", wait: pop3server.StandingFor, want: gone, asked: 1, left: 2, ended: true},
		"falls in Polish":            {fall: true, say: "LANG pl\r\nNOOP\r\n", wait: pop3server.StandingFor, want: gone, asked: 1, left: 2, ended: true},
		"QUIT deletes":               {say: "DELE 1\r\nQUIT\r\n", want: "+OK marked as deleted\r\n+OK deleted, bye\r\n", asked: 1, left: 1, ended: true},
		"QUIT deletes nothing":       {fall: true, say: "DELE 1\r\nQUIT\r\n", want: "+OK marked as deleted\r\n" + gone, asked: 1, left: 2, ended: true},
		"QUIT without marks":         {fall: true, say: "QUIT\r\n", wait: time.Minute, want: "+OK bye\r\n", left: 2, ended: true},
		"QUIT after RSET":            {fall: true, say: "DELE 1\r\nRSET\r\nQUIT\r\n", want: "+OK marked as deleted\r\n+OK marks removed\r\n+OK bye\r\n", left: 2, ended: true},
		"not known":                  {err: errors.New("database is away"), say: "STAT\r\n", wait: time.Minute, want: "-ERR [SYS/TEMP] maildrop is unavailable", asked: 1, left: 2},
		"not known, QUIT with marks": {err: errors.New("database is away"), say: "DELE 1\r\nQUIT\r\n", want: "+OK marked as deleted\r\n-ERR [SYS/TEMP] nothing was deleted", asked: 1, left: 2, ended: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := new(register)
			inBubble(t, func(c *pop3server.Config) { c.Identities = r }, func(b *bubble) {
				golden(b.post)
				p := b.dial()
				p.take()
				_, _ = io.WriteString(p.conn, "USER mrose\r\nPASS secret\r\n") // not p.say, which lets time pass
				synctest.Wait()
				r.set(tt.fall, tt.err)
				<-time.After(tt.wait)
				if _, got, _ := strings.Cut(p.say(tt.say), "octets)\r\n"); !strings.HasPrefix(got, tt.want) {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
				if n := r.count(); n != tt.asked {
					t.Errorf("asked %d times, want %d", n, tt.asked)
				}
				if n := len(b.post.Messages("mrose")); n != tt.left {
					t.Errorf("%d messages are left, want %d", n, tt.left)
				}
				if p.closed() != tt.ended {
					t.Errorf("the session has ended: %v, want %v", p.closed(), tt.ended)
				}
			})
		})
	}
}

// TestOldAnswerIsForgotten: an identity that was found to stand is asked about again.
func TestOldAnswerIsForgotten(t *testing.T) {
	t.Parallel()
	r := new(register)
	inBubble(t, func(c *pop3server.Config) { c.Identities = r }, func(b *bubble) {
		p := b.dial()
		p.login("ala")
		for i := range 5 {
			<-time.After(pop3server.StandingFor)
			if got := p.say("NOOP\r\n"); !strings.HasPrefix(got, "+OK") || r.count() != i+1 {
				t.Errorf("NOOP %d: got %q after %d questions", i, got, r.count())
			}
		}
		r.set(true, nil)
		<-time.After(pop3server.StandingFor)
		if got := p.say("NOOP\r\n"); !strings.HasPrefix(got, "-ERR [AUTH]") || !p.closed() {
			t.Errorf("got %q", got)
		}
	})
}
