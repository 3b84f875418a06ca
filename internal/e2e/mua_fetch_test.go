package e2e_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/poppeer"
)

// foreigner is another house's POP3 server.
type foreigner struct {
	port     int
	security string
	drop     func(letters ...string)
	renew    func() // gives every letter a new unique-id; nil where it can't be made to
}

// TestMailFetchesFromOthers fetches from the POP3 servers of other houses by the command line: all
// of it once, again nothing, new unique-ids recognised, large letters by their header sections
// first, what the person deletes, and at last everything away.
func TestMailFetchesFromOthers(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil, "").postfix()
	for name, start := range map[string]func(*testing.T) foreigner{
		"Dovecot": func(t *testing.T) foreigner { return fromDovecot(t, p) },
		"Courier": fromCourier,
		"Cyrus": func(t *testing.T) foreigner {
			c := newCyrus(t, p)
			return foreigner{port: c.pop3s, security: "tls", drop: c.drop}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			l := newLaptop(t)
			l.write("password", secret+"\n")
			outgoing := loopback(p.submissions)
			if f.security == "none" { // Postfix takes that on this computer too
				outgoing = loopback(p.submission)
			}
			l.does("", "add", "ala@provider.test", "--login", "ala", "--password-file", "password", "--ca", p.authority(l),
				"--incoming", loopback(f.port), "--outgoing", outgoing, "--security", f.security)
			l.fetches(f)
			l.removes(f)
		})
	}
}

// numbered are letters that differ.
func numbered(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("From: Ola <ola@provider.test>\nTo: ala@provider.test\nMessage-ID: <letter-%d@provider.test>\nDate: Mon, 16 Nov 2026 10:00:%02d +0100\nSubject: letter %d\n\n%s\n.\n..\nżółw\n",
			i, i%60, i, strings.Repeat("line of words\n", i)))
	}
	return all
}

// fetches fetches all, nothing, what is new, and by header sections.
func (l *laptop) fetches(f foreigner) {
	l.t.Helper()
	f.drop(numbered(0, 30)...)
	l.says("30 new letters", "sync")
	l.says("nothing new", "sync")
	f.drop(numbered(30, 33)...)
	l.says("3 new letters", "sync")
	if f.renew != nil {
		f.renew()
		l.says("33 recognised under new unique-ids", "sync")
	}
	for _, r := range l.lists("list", "--folder", "INBOX", "-n", "4") {
		raw := l.does("", "read", id(r.ID), "--raw", "--peek")
		n, err := strconv.Atoi(strings.TrimPrefix(r.Subject, "letter "))
		if err != nil || n > 32 || !strings.HasSuffix(raw, strings.ReplaceAll(numbered(n, n+1)[0], "\n", "\r\n")) {
			l.t.Errorf("letter %d is not as it was sent: %q", r.ID, raw)
		}
	}
	l.does("", "policy", "--headers-above", "20KiB")
	f.drop("From: ola@provider.test\nSubject: large\nMessage-ID: <large@provider.test>\n\n" + strings.Repeat("a long line of many words\n", 4000) + "the end\n")
	l.says("with their header sections only", "sync")
	large := l.lists("list", "--folder", "INBOX", "-n", "1")[0]
	if large.Subject != "large" || !large.Partial {
		l.t.Errorf("got %+v", large)
	}
	if text := l.does("", "read", id(large.ID)); !strings.Contains(text, "\nthe end\n") {
		l.t.Errorf("a large letter is not whole when it is read: %.200s", text)
	}
}

// removes deletes a letter for good, which follows to the server, and then lets everything go there.
func (l *laptop) removes(f foreigner) {
	l.t.Helper()
	first := l.lists("list", "--folder", "INBOX", "-n", "100")
	l.does("", "policy", "--follow")
	gone := id(first[len(first)-1].ID)
	l.does("", "delete", gone)
	l.says("; 34 on the server", "sync") // it is in Trash
	l.does("", "delete", gone)
	l.says("1 deleted on the server", "sync")
	l.does("", "policy", "--keep", "fetched")
	l.says("33 deleted on the server", "sync")
	l.says("; 0 on the server", "sync")
	if n := len(l.lists("list", "--folder", "INBOX", "-n", "100")); n != 33 {
		l.t.Errorf("%d letters are here, want 33", n)
	}
}

// says runs a command that must succeed and say text.
func (l *laptop) says(text string, args ...string) {
	l.t.Helper()
	if out := l.does("", args...); !strings.Contains(out, text) {
		l.t.Errorf("poczta mail %s: want %q in\n%s", strings.Join(args, " "), text, out)
	}
}

// fromDovecot is the provider's own server; without its list of uids it begins anew.
func fromDovecot(t *testing.T, p *provider) foreigner {
	t.Helper()
	return foreigner{port: p.pop3s, security: "tls", drop: func(letters ...string) { p.drop("ala", letters...) }, renew: func() {
		for _, pattern := range []string{"dovecot-uidlist", "dovecot.index*", "dovecot-uidvalidity*"} {
			for _, name := range glob(t, filepath.Join(p.dir, "mail/ala", pattern)) {
				if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // it was one that Dovecot had for a moment
					t.Fatal(err)
				}
			}
		}
	}}
}

// fromCourier is Courier, which keeps its unique-ids in a file of the Maildir.
func fromCourier(t *testing.T) foreigner {
	t.Helper()
	c := poppeer.Courier(t, nil)
	_, port, err := net.SplitHostPort(c.Plain)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return foreigner{port: n, security: "none", drop: func(letters ...string) { dropIn(t, c.Folder, letters...) }, renew: func() {
		if err := os.Remove(filepath.Join(c.Folder, "courierpop3dsizelist")); err != nil {
			t.Fatal(err)
		}
	}}
}
