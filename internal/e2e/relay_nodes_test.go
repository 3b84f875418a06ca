package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/trace"
)

// third sets up one more server on the database of a.
func third(t *testing.T, a *server) *server {
	t.Helper()
	text, err := os.ReadFile(a.conf)
	if err != nil {
		t.Fatal(err)
	}
	c := &server{t: t, dir: t.TempDir(), base: freeBase(t)}
	c.conf = filepath.Join(c.dir, "poczta.toml")
	if err := os.Mkdir(filepath.Join(c.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := strings.NewReplacer(a.dir, c.dir, "mx1."+domain, "mx3."+domain, "port_base = "+strconv.Itoa(a.base), "port_base = "+strconv.Itoa(c.base)).Replace(string(text))
	if err := os.WriteFile(c.conf, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	return c
}

// leaseOver is when a node that was stopped has lost its lease for certain: 30 s, and a
// renewal that was on its way.
const leaseOver = 32 * time.Second

// TestThreeNodesRelay has three nodes work one queue. One is killed under load, one is paused
// until its lease is over, with transactions between MAIL and the final dot; the third
// takes everything over. Every accepted recipient gets its message; twice only what was in
// flight at the kill or the pause; the paused node, when it wakes, sends no final dot any
// more, begins anew and works again. The lease is 30 s and can't be made shorter, so this
// test takes longer than others.
func TestThreeNodesRelay(t *testing.T) {
	if testing.Short() {
		t.Skip("a lease must run out, which takes half a minute")
	}
	t.Parallel()
	const perSite = 6
	a, b, url := twoNodes(t)
	nodes := []*server{a, b, third(t, a)}
	c := nodes[2]
	refuse := peer.Rule{Stage: peer.Rcpt, Match: "nobody", Do: peer.Reply("550 5.1.1 there is nobody")}
	slow := peer.Rule{Stage: peer.Final, Do: peer.Late(20 * time.Millisecond)}
	hesitant := peer.Rule{Stage: peer.Data, Do: peer.Late(time.Second)} // the paused node's: it is before the final dot when it is stopped
	peers := make([]*peer.Peer, len(nodes))
	for i, s := range nodes {
		peers[i] = peer.Start(t, peer.Config{Discard: true, Rules: []peer.Rule{refuse, []peer.Rule{slow, hesitant, slow}[i]}})
		s.rewrite("?user=postgres", fmt.Sprintf("?application_name=node%d&user=postgres", i+1))
		s.configure(unlimited, unwatched, hub(peers[i].Listen(t)), fmt.Sprintf("[relay]\nconnections_per_site = %d\nretry = [\"10s\"]\nprobe = [\"10s\"]", perSite))
		s.start()
	}
	l, enough := newLog(), make(chan struct{})
	var wg sync.WaitGroup
	for i, s := range nodes {
		wg.Go(func() {
			l.pour(s.addr(587), fmt.Sprintf("n%d", i), fmt.Sprintf("far%d.test", i), fmt.Sprintf("away%d.test", i), 15*time.Millisecond, enough)
		})
	}
	a.await("all nodes deliver", 20*time.Second, func() bool {
		return len(peers[0].Messages()) > 20 && peers[1].Seen(peer.Data) > 6 && len(peers[2].Messages()) > 20
	})
	a.kill()
	freeze(t, b, url, func() bool { return peers[1].Seen(peer.Data) > len(peers[1].Messages()) })
	paused, spare := time.Now(), unsettledRows(t, url)
	<-time.After(time.Second)
	close(enough)
	c.idle(80 * time.Second)
	t.Logf("the third node had emptied the queue %s after the others stopped", time.Since(paused).Round(time.Second))
	<-time.After(time.Until(paused.Add(leaseOver)))
	before := len(peers[1].Messages())
	if open := peers[1].Seen(peer.Data) - before; open == 0 {
		t.Error("the paused node had no transaction open, so that the test shows nothing of it")
	} else {
		t.Logf("%d transactions were open when the node was paused", open)
	}
	if err := b.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.await("the paused node has seen that its lease is over", 20*time.Second, func() bool { return strings.Contains(b.log.String(), "relay begins anew") })
	if n := len(peers[1].Messages()) - before; n != 0 {
		t.Errorf("the paused node delivered %d messages with a lease that was over", n)
	}
	wg.Wait()
	c.stop()
	b.send(l, post{"awake@test", []string{"a@far.test"}})
	b.idle(30 * time.Second)
	b.audit(l, spare, peers...)
	if got := copies(peers[1])[peer.Copy{MessageID: "awake@test", Rcpt: "a@far.test"}]; got != 1 {
		t.Errorf("the node that was paused delivered the next message %d times, want once", got)
	}
	onceInTrace(t, url)
	for _, s := range nodes {
		if s.cmd != nil {
			s.stop()
		}
	}
}

// unsettledRows is what the queue has: of the node that was killed, of the one that was paused,
// and of the third.
func unsettledRows(t *testing.T, url string) map[peer.Copy]int {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	rows, err := db.Query(t.Context(), unsettledSQL)
	if err != nil {
		t.Fatal(err)
	}
	spare, c := map[peer.Copy]int{}, peer.Copy{}
	_, err = pgx.ForEachRow(rows, []any{&c.MessageID, &c.Rcpt}, func() error {
		spare[peer.Copy{MessageID: strings.Trim(c.MessageID, "<>"), Rcpt: c.Rcpt}]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return spare
}

// freeze stops node2 in the middle of a transaction that has written results, with their
// rows locked, while mail transactions of it are open with its host.
func freeze(t *testing.T, b *server, url string, open func() bool) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	for n := range 2000 {
		if err := b.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		var locked int
		err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'node2' AND state = 'idle in transaction'
			AND backend_xid IS NOT NULL AND query ILIKE '%queued_recipient%' AND query NOT ILIKE 'INSERT%'`).Scan(&locked)
		if err != nil {
			t.Fatal(err)
		}
		if locked > 0 && open() {
			t.Logf("node2 was stopped in a transaction at try %d", n+1)
			return
		}
		if err := b.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Millisecond)
	}
	t.Log("node2 could not be stopped in a transaction")
	if err := b.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// onceInTrace wants each recipient to have one fate, which will not change.
func onceInTrace(t *testing.T, url string) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	for query, want := range map[string]int{
		fmt.Sprintf(`SELECT COUNT(*) FROM trace WHERE recipient LIKE '%%test' AND recipient NOT LIKE 'nobody%%' AND state <> %d`, trace.Relayed): 0,
		fmt.Sprintf(`SELECT COUNT(*) FROM trace WHERE recipient LIKE 'nobody%%' AND state <> %d`, trace.Bounced):                                 0,
		`SELECT COUNT(*) FROM (SELECT id, recipient FROM trace GROUP BY id, recipient HAVING COUNT(*) > 1) x`:                                    0,
		`SELECT COUNT(*) FROM body WHERE id NOT IN (SELECT body FROM entry)`:                                                                     0,
		`SELECT COUNT(*) FROM queued_message`: 0,
	} {
		var got int
		if err := db.QueryRow(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %d (%v), want %d", query, got, err, want)
		}
	}
}
