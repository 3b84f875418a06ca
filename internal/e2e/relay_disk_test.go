package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// free is how many octets a disk has left.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Bavail) * fs.Bsize
}

// hog takes the disk but for some octets.
func hog(t *testing.T, dir string, leave int64) (release func()) {
	t.Helper()
	path := filepath.Join(dir, "hog")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for free(t, dir) > leave+int64(len(block)) {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// TestDrainOnFullDisk drains the queue on a disk that is full: below the reserve new mail
// is refused while results are written; with no octet left results wait in memory; in
// neither case does anything get lost, or go twice. Reports of failures are mail: they
// wait for room, and the recipients whom they are about wait with them.
func TestDrainOnFullDisk(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Discard: true, Rules: []peer.Rule{{Stage: peer.Rcpt, Match: "nobody", Do: peer.Reply("550 5.1.1 there is nobody")}}})
	s := setupIn(t, smallDisk(t, 64), plaintext, unlimited, unwatched, hub(p.Listen(t)), "[store]\nreserve = \"24MiB\"\nsegment_size = \"4MiB\"")
	s.start()
	l, failing := newLog(), 150
	fill := func(prefix string, failing int) {
		dest := prefix + ".test"
		s.run("", "queue", "suspend", dest)
		var posts []post
		for i := range 150 {
			m := post{fmt.Sprintf("%s-%d@test", prefix, i), []string{"a@" + dest, "b@" + dest}}
			if i < failing {
				m.to = append(m.to, "nobody@"+dest)
			}
			posts = append(posts, m)
		}
		s.send(l, posts...)
	}
	fill("low", failing)
	fill("none", 0)

	release := hog(t, s.dir, 12<<20)
	s.refuses()
	s.run("", "queue", "resume", "low.test")
	s.await("all are taken on a disk below its reserve", 20*time.Second, func() bool { return len(copies(p)) == 300 })
	s.await("the results are written", 10*time.Second, func() bool {
		return len(s.list("queue", "list", "--domain", "low.test")) == failing
	})
	release()

	s.run("", "queue", "resume", "none.test")
	s.await("some are taken", 10*time.Second, func() bool { return len(copies(p)) > 310 })
	release = hog(t, s.dir, 0)
	rest := filepath.Join(s.dir, "rest")
	fillUp(t, rest)
	s.refuses()
	<-time.After(2 * time.Second) // the relay goes on meanwhile
	if err := os.Remove(rest); err != nil {
		t.Fatal(err)
	}
	release()
	s.await("everything else has left", 20*time.Second, func() bool { return len(s.list("queue", "list", "--domain", "none.test")) == 0 })
	s.await("the failures are reported", 20*time.Second, func() bool {
		s.command("", "queue", "retry", "--all") // they wait ten minutes for room
		return len(s.list("queue", "list")) == 0
	})
	s.onceEach(p, l, failing)
	s.send(l, post{"room@test", []string{"a@room.test"}})
	s.idle(10 * time.Second)
	s.stop()
	s.settled()
}

// onceEach wants every recipient of TestDrainOnFullDisk to have got each message once, and
// each failure to be reported once.
func (s *server) onceEach(p *peer.Peer, l *log, failing int) {
	s.t.Helper()
	got, back := copies(p), s.returned()
	for id := range l.acked {
		for _, to := range l.tried[id].to {
			key := peer.Copy{MessageID: id, Rcpt: to}
			n := got[key]
			if strings.HasPrefix(to, "nobody") {
				n += len(back[key])
			}
			if n != 1 {
				s.t.Errorf("%s: message or report %s %d times, want once", to, id, n)
			}
		}
	}
	if len(back) != failing {
		s.t.Errorf("%d reports, want %d", len(back), failing)
	}
}

// refuses wants new mail to be answered 452 4.3.1.
func (s *server) refuses() {
	s.t.Helper()
	c := dial(s.t, s.addr(25))
	c.expect("220")
	c.say("EHLO client.test", "250")
	if r := c.try("x@elsewhere.test", ala, "Subject: small\r\n\r\nx\r\n"); !strings.HasPrefix(r, "452 4.3.1") {
		s.t.Errorf("on a full disk got %q, want 452 4.3.1", r)
	}
	c.say("QUIT", "221")
}
