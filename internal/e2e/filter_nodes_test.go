package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mbox is n messages of a kind, no two alike.
func mbox(n int, from, words string) string {
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "From %s Mon Nov 23 03:00:00 2026\nFrom: %s\nSubject: %s %d\nMessage-ID: <%d@%s>\n\n%s, number %d.\n\n", from, from, words, i, i, strings.ReplaceAll(words, " ", "."), words, i)
	}
	return all.String()
}

// TestFiltersOnNodes has two nodes on one PostgreSQL: what one is taught the other judges by, with the
// server running and without, and a stranger whom one asks to come again may come to the other.
func TestFiltersOnNodes(t *testing.T) {
	t.Parallel()
	a, b, _ := twoNodes(t)
	n := newNames(t, far()...)
	for _, s := range []*server{a, b} {
		s.configure("[xclient]\nfrom = [\"127.0.0.1\"]", fmt.Sprintf("[dns]\nservers = [%q]\ntimeout = \"10s\"", n.addr),
			"[spam]\ngrey = 2\ngrey_delay = \"1s\"", "[tls_reports]\nsend = false", "[dmarc_reports]\nsend = false")
	}
	a.start()
	dir := t.TempDir()
	spam, ham := "cheap watches and pills for you, buy them now", "the minutes of our meeting about the garden fence"
	letter := keep(t, dir, "letter.eml", written("jan@far.test", ala, "an offer", "Cheap watches and pills, buy them now."))
	judge := func(s *server) map[string]any {
		row := s.list("spam", "test", letter, "--peer", "192.0.2.10", "--helo", "mx.far.test", "--from", "jan@far.test", "--to", ala)[0]
		return row
	}
	if got := judge(a); got["action"] != "deliver" {
		t.Errorf("before the training the letter is judged %v", got)
	}
	a.run("", "spam", "train", "--spam", keep(t, dir, "spam.mbox", mbox(60, "x@spam.test", spam)))
	b.run("", "spam", "train", "--ham", keep(t, dir, "ham.mbox", mbox(60, "y@garden.test", ham)))
	a.run("", "spam", "train", "--spam", keep(t, dir, "again.mbox", mbox(60, "x@spam.test", spam)))
	stats := func(s *server) map[string]any {
		row := s.list("spam", "stats")[0]
		return map[string]any{"spam": row["spam"], "ham": row["ham"], "counts": row["counts"]}
	}
	want := map[string]any{"spam": 60.0, "ham": 60.0, "counts": true}
	for i, s := range []*server{a, b} {
		if diff := cmp.Diff(want, stats(s)); diff != "" {
			t.Errorf("what node %d has learned (-want +got):\n%s", i, diff)
		}
	}
	if got := judge(b); !strings.Contains(fmt.Sprint(got["evidence"]), "classifier_spam") || got["action"] == "deliver" {
		t.Errorf("a node that does not run judges the letter %v", got)
	}
	b.start()
	try := func(s *server) string {
		c := s.outsider("192.0.2.10", "mx.far.test")
		defer c.conn.Close()
		return c.try("jan@far.test", ala, readFile(t, letter))
	}
	// A running server reads within some seconds what was taught. Programs of its own host show when.
	for i, s := range []*server{a, b} {
		s.await("the node judges by what was taught", 20*time.Second, func() bool {
			<-time.After(200 * time.Millisecond)
			c := dial(t, s.addr(25))
			defer c.conn.Close()
			c.expect("220")
			c.say("EHLO localhost", "250")
			return strings.Contains(s.fate(c.data("cron@far.test", ala, written("cron@far.test", ala, fmt.Sprint("probe ", i), spam), "250")), "classifier_spam")
		})
	}
	if got := try(a); !strings.HasPrefix(got, "451") {
		t.Errorf("a suspicious stranger is answered %q", got)
	}
	var reply string
	b.await("the host has waited", 5*time.Second, func() bool {
		reply = try(b)
		return strings.HasPrefix(reply, "250")
	})
	for _, want := range []string{"classifier_spam", "greylisted"} {
		if got := b.fate(reply); !strings.Contains(got, want) {
			t.Errorf("the trace lacks %s:\n%s", want, got)
		}
	}
	a.figure(`poczta_greylist_total{action="wait"}`, 1)
	b.figure(`poczta_greylist_total{action="pass"}`, 1)
	b.figure(`poczta_classifier_judged_total{answer="spam"}`, 1)
}
