package lab_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
)

// copies counts the letters of a Maildir by the Message-ID's local-part.
func copies(t *testing.T, h *host, local string) map[string]int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(h.dir, "mail", local, "new/*"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if m := messageID.FindSubmatch(text); err == nil && m != nil {
			found[string(m[1])]++
		}
	}
	return found
}

var messageID = regexp.MustCompile(`(?m)^Message-ID: <([^@>]+)@lab\.test>`)

// peerDown: the cable of a peer is pulled; mail waits for it, and leaves when a probe
// finds it again.
func (w *world) peerDown(t *testing.T) {
	w.quiet(t)
	w.exim.on(t).cable("down")
	w.submit(t, w.ours, "ala@ours.test", letter{from: "ala@ours.test", to: "emil@exim.test", token: "cable"})
	ours := w.ours.on(t)
	ours.waiting("emil@exim.test", 2*soon, "4.4")
	w.exim.on(t).cable("up")
	_, way := ours.fate("cable", "emil@exim.test", 2*soon, "relayed")
	t.Log(way)
	find(t, w.exim, "emil", "cable")
}

// processStopped: nobody listens for a while.
func (w *world) processStopped(t *testing.T) {
	w.quiet(t)
	w.eximProc.signal(syscall.SIGTERM, 10*time.Second)
	w.submit(t, w.ours, "ala@ours.test", letter{from: "ala@ours.test", to: "emil@exim.test", token: "stopped"})
	ours := w.ours.on(t)
	wants(t, "status", ours.waiting("emil@exim.test", soon, "4.4"), "refused")
	w.startExim(t)
	ours.fate("stopped", "emil@exim.test", soon, "relayed")
	find(t, w.exim, "emil", "stopped")
}

// killed: kill -9 of our server while letters wait for a peer, and again while they
// leave: everything arrives. A letter whose final reply was lost with the process may
// come twice, none may be lost.
func (w *world) killed(t *testing.T) {
	const letters = 150
	w.quiet(t)
	w.exim.on(t).cable("down")
	s := w.login(t, w.ours, "ala@ours.test")
	for i := range letters {
		s.give(letter{from: "ala@ours.test", to: "emil@exim.test", token: fmt.Sprintf("killed-%d", i)})
	}
	w.ours.p.signal(syscall.SIGKILL, 10*time.Second)
	w.ours.serve()
	if n := len(w.ours.on(t).list("queue", "list", "--to", "emil@exim.test")); n != letters {
		t.Errorf("%d letters are queued after kill -9, want %d", n, letters)
	}
	w.exim.on(t).cable("up")
	w.ours.on(t).poczta("", "queue", "retry", "--domain", "exim.test")
	count := func() (there int, twice []string) {
		found := copies(t, w.exim, "emil")
		for i := range letters {
			token := fmt.Sprintf("killed-%d", i)
			n := found[token]
			if n > 0 {
				there++
			}
			if n > 1 {
				twice = append(twice, token)
			}
		}
		return there, twice
	}
	await(t, "some letters have arrived", 2*soon, func() bool { n, _ := count(); return n > 0 })
	w.ours.p.signal(syscall.SIGKILL, 10*time.Second)
	atKill, _ := count()
	queued := w.queued(t)
	w.ours.serve()
	await(t, "all letters have arrived", 3*soon, func() bool { n, _ := count(); return n == letters })
	_, twice := count()
	t.Logf("%d letters had arrived at the second kill; %d came twice", atKill, len(twice))
	for _, token := range twice {
		if !queued[token] {
			t.Errorf("%s came twice, and the kill did not find it in the queue", token)
		}
	}
}

// queued is what our server, which was killed, has in its queue, by the Message-ID's local-part.
func (w *world) queued(t *testing.T) map[string]bool {
	t.Helper()
	d, err := db.OpenSQLite(t.Context(), db.SQLiteConfig{Path: filepath.Join(w.ours.dir, "data/poczta.db")})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	err = d.View(t.Context(), func(tx db.Tx) error {
		rows, err := tx.Query(`SELECT DISTINCT trace.message_id FROM queued_recipient JOIN trace ON trace.id = queued_recipient.id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			local, _, _ := strings.Cut(strings.Trim(id, "<>"), "@")
			all[local] = true
		}
		return rows.Err()
	})
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	return all
}

// backup: the first MX is away; the second takes mail for recipients that it has
// verified, and delivers when the first asks for it by ETRN (RFC 1985).
func (w *world) backup(t *testing.T) {
	branch := w.branch.on(t)
	w.quiet(t)
	w.eximProc.signal(syscall.SIGTERM, 10*time.Second)
	w.submit(t, w.ours, "ala@ours.test", letter{from: "ala@ours.test", to: "emil@backed.test", token: "backup"})
	f, _ := w.ours.on(t).fate("backup", "emil@backed.test", 2*soon, "relayed")
	wants(t, "trace", f.Detail, "mx.branch.test", "dane")
	branch.waiting("emil@backed.test", 2*soon, "4.4")
	w.startExim(t)
	s := connect(t, w.client, w.branch.addr, 25)
	s.say("EHLO client.test", "250")
	s.say("ETRN backed.test", "250", "251", "252", "253")
	s.say("ETRN exim.test", "458", "459", "550", "501")
	branch.fate("backup", "emil@backed.test", 2*soon, "relayed")
	find(t, w.exim, "emil", "backup")
}

// quiet waits until our server keeps no connection to others: one whose cable is pulled
// would be given up only after the minutes of RFC 5321 §4.5.3.2.
func (w *world) quiet(t *testing.T) {
	t.Helper()
	for _, s := range []*poczta{w.ours, w.branch} {
		await(t, s.name+" keeps no connection", soon, func() bool {
			c, err := s.dial(s.local(), 9025)
			if err != nil {
				return false
			}
			defer c.Close()
			_, err = fmt.Fprint(c, "GET /metrics HTTP/1.0\r\n\r\n")
			text, readErr := io.ReadAll(c)
			return err == nil && readErr == nil && strings.Contains(string(text), "\npoczta_relay_connections 0\n")
		})
	}
}
