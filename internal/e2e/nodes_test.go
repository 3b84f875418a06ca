package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"poczta.example/poczta/internal/mailtest/pgtest"
)

// twoNodes sets up two servers on one PostgreSQL, bodies in its rows.
func twoNodes(t *testing.T) (a, b *server, url string) {
	t.Helper()
	url = pgtest.URL(t, pgtest.Options{})
	a = &server{t: t, dir: t.TempDir(), base: freeBase(t)}
	a.conf = filepath.Join(a.dir, "poczta.toml")
	secret := keep(t, a.dir, "secret", password+"\n")
	a.run("", "setup", "--data", filepath.Join(a.dir, "data"), "--hostname", "mx1."+domain, "--domain", domain, "--account", "ala@"+domain,
		"--password-file", secret, "--listen-host", "127.0.0.1", "--port-base", strconv.Itoa(a.base), "--tls", "self-signed", "--postgres", url, "--yes")
	a.configure(plaintext)
	text, err := os.ReadFile(a.conf)
	if err != nil {
		t.Fatal(err)
	}
	b = &server{t: t, dir: t.TempDir(), base: freeBase(t)}
	b.conf = filepath.Join(b.dir, "poczta.toml")
	if err := os.Mkdir(filepath.Join(b.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := strings.NewReplacer(a.dir, b.dir, "mx1."+domain, "mx2."+domain, "port_base = "+strconv.Itoa(a.base), "port_base = "+strconv.Itoa(b.base)).Replace(string(text))
	if err := os.WriteFile(b.conf, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	return a, b, url
}

// TestTwoNodes lets two processes serve the same mailboxes from one PostgreSQL.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	a, b, _ := twoNodes(t)
	a.start()
	b.start()
	login := "ala@" + domain
	a.run(password+"\n", "account", "add", "ola@"+domain)
	deliver(t, a, "by the first")
	deliver(t, b, "by the second")
	uidsA, subjectsA := listing(t, a, login)
	uidsB, subjectsB := listing(t, b, login)
	if fmt.Sprint(uidsA, subjectsA) != fmt.Sprint(uidsB, subjectsB) || len(uidsA) != 2 {
		t.Fatalf("the nodes show different mail:\n%v %v\n%v %v", uidsA, subjectsA, uidsB, subjectsB)
	}
	remove(t, a, login, 1)
	if _, subjects := listing(t, b, login); len(subjects) != 1 || subjects[0] != "by the second" {
		t.Fatalf("deleted at one node, the other shows %v", subjects)
	}
	b.run("", "account", "disable", "ola@"+domain)
	c := dial(t, a.addr(25))
	c.expect("220")
	c.say("EHLO client.test", "250")
	c.say("MAIL FROM:<x@elsewhere.test>", "250")
	c.say("RCPT TO:<ola@example.org>", "550 5.2.1")
	b.run("", "account", "enable", "ola@"+domain)
	c.say("RCPT TO:<ola@example.org>", "250")
}

// TestNodeDies kills one of two nodes under load: every message that got its 250
// from either is there, once, and the other goes on.
func TestNodeDies(t *testing.T) {
	t.Parallel()
	a, b, _ := twoNodes(t)
	a.start()
	a.run(password+"\n", "account", "add", "ola@"+domain)
	b.start()
	l := newLedger()
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { sendUntilDead(a.addr(25), l, fmt.Sprintf("a%d", i)) })
		wg.Go(func() { sendUntilDead(b.addr(25), l, fmt.Sprintf("b%d", i)) })
	}
	wg.Go(func() { deleteUntilDead(b.addr(110), l, "ala@"+domain) })
	a.await("forty messages were accepted", time.Minute, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acked) >= 40
	})
	a.kill()
	before := func() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.acked) }()
	b.await("the other node accepts forty more", time.Minute, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acked) >= before+40
	})
	b.kill()
	wg.Wait()
	a.start()
	checkMailbox(t, a, l, "ala@"+domain, true)
	checkMailbox(t, a, l, "ola@"+domain, false)
}

// TestPastSchema runs this program as the past release beside a newer one: the
// next release's additive step is applied while both nodes run, and one starts
// again on it. An older schema is refused with the command that mends it.
func TestPastSchema(t *testing.T) {
	t.Parallel()
	a, b, url := twoNodes(t)
	a.start()
	b.start()
	login := "ala@" + domain
	deliver(t, a, "before")
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	for _, q := range []string{
		`ALTER TABLE entry ADD COLUMN of_the_next_release BIGINT NOT NULL DEFAULT 0`,
		`ALTER TABLE account ADD COLUMN of_the_next_release TEXT NOT NULL DEFAULT ''`,
		`INSERT INTO schema_step SELECT * FROM (SELECT component, number + 1, applied, 0 FROM schema_step WHERE component = 'mailbox' ORDER BY number DESC LIMIT 1) s`,
	} {
		if _, err := db.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	deliver(t, a, "after, by a node that ran")
	b.stop()
	b.start()
	deliver(t, b, "after, by a node that started")
	for _, s := range []*server{a, b} {
		if _, subjects := listing(t, s, login); len(subjects) != 3 {
			t.Errorf("got %v, want three messages", subjects)
		}
	}
	b.stop()
	if _, err := db.Exec(t.Context(), `DELETE FROM schema_step WHERE component = 'trace'`); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := b.command("", "serve")
	if code != 1 || !strings.Contains(stderr, "store migrate") {
		t.Errorf("serve on an older schema: exit %d, %q; want 1 and the command that mends it", code, stderr)
	}
}
