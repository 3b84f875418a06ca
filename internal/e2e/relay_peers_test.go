package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// hostile are hosts that misbehave at once, by the name of their domain, and what the queue
// says of a recipient there after the first attempt. "" is a host that is waited for.
var hostile = map[string]struct {
	rule peer.Rule
	want string
}{
	"drop-greeting":  {peer.Rule{Stage: peer.Greeting, Do: peer.Drop()}, "451 4.4.2"},
	"rst-hello":      {peer.Rule{Stage: peer.Hello, Do: peer.RST()}, "451 4.4.2"},
	"drop-mail":      {peer.Rule{Stage: peer.Mail, Do: peer.Drop()}, "451 4.4.2"},
	"drop-rcpt":      {peer.Rule{Stage: peer.Rcpt, Do: peer.Drop()}, "451 4.4.2"},
	"drop-data":      {peer.Rule{Stage: peer.Data, Do: peer.Drop()}, "451 4.4.2"},
	"drop-body":      {peer.Rule{Stage: peer.Body, Do: peer.Drop().AfterOctets(100)}, "451 4.4.2"},
	"drop-final":     {peer.Rule{Stage: peer.Final, Do: peer.Drop()}, "451 4.4.2"},
	"garbage":        {peer.Rule{Stage: peer.Greeting, Do: peer.Garbage()}, "451 4."},
	"garbage-final":  {peer.Rule{Stage: peer.Final, Do: peer.Garbage()}, "451 4."},
	"endless":        {peer.Rule{Stage: peer.Hello, Do: peer.Endless()}, "451 4."},
	"endless-line":   {peer.Rule{Stage: peer.Greeting, Do: peer.EndlessLine()}, "451 4."},
	"endless-rcpt":   {peer.Rule{Stage: peer.Rcpt, Do: peer.Endless()}, "451 4."},
	"endless-final":  {peer.Rule{Stage: peer.Final, Do: peer.Endless()}, "451 4."},
	"later-greeting": {peer.Rule{Stage: peer.Greeting, Do: peer.Reply("421 4.3.2 not now")}, "421 4.3.2 not now"},
	"later-data":     {peer.Rule{Stage: peer.Data, Do: peer.Reply("451 4.3.0 not now")}, "451 4.3.0 not now"},
	"later-final":    {peer.Rule{Stage: peer.Final, Do: peer.Reply("452 4.3.1 full")}, "452 4.3.1 full"},
	"slow-reader":    {peer.Rule{Stage: peer.Body, Do: peer.SlowRead(time.Second)}, ""},
	"trickle":        {peer.Rule{Stage: peer.Hello, Do: peer.Trickle(500 * time.Millisecond)}, ""},
}

// TestHostileHosts writes to hosts that drop, flood and lie at every stage: each costs one
// attempt, memory stays bounded, and what happened stands in the queue and the trace.
func TestHostileHosts(t *testing.T) {
	t.Parallel()
	var zone []string
	m := post{id: "hostile@test"}
	peers := map[string]*peer.Peer{}
	addrs := map[string]string{}
	for d, h := range hostile {
		addrs[d] = fmt.Sprintf("127.77.3.%d", len(addrs)+1)
		zone = append(zone, d+".test. MX 1 mx."+d+".test.", "mx."+d+".test. A "+addrs[d])
		m.to = append(m.to, "x@"+d+".test")
		peers[d] = peer.Start(t, peer.Config{Rules: []peer.Rule{h.rule}})
	}
	s := setup(t, plaintext)
	s.outward(newNames(t, zone...), "retry = [\"1h\"]\nprobe = [\"1h\"]")
	for d, p := range peers {
		listenAt(t, p, addrs[d], s.relayPort())
	}
	s.start()
	s.send(newLog(), m)
	status := map[string]string{}
	s.await("all but the slow ones have been tried", 20*time.Second, func() bool {
		tried := 0
		for _, row := range s.list("queue", "list") {
			for _, r := range row["recipients"].([]any) {
				x := r.(map[string]any)
				d := strings.TrimSuffix(x["destination"].(string), ".test")
				status[d] = fmt.Sprint(x["last_status"])
				if hostile[d].want != "" && x["attempts"].(float64) > 0 {
					tried++
				}
			}
		}
		return tried == len(hostile)-2
	})
	for d, h := range hostile {
		if h.want == "" != (status[d] == "") || !strings.HasPrefix(status[d], h.want) {
			t.Errorf("%s: the queue says %q, want %q", d, status[d], h.want)
		}
		if n := peers[d].Connections(); n < 1 || n > 2 {
			t.Errorf("%s: %d connections, want one attempt", d, n)
		}
	}
	if mib := s.memory(); mib > 150 {
		t.Errorf("the server takes %d MiB", mib)
	}
	events := strings.Join(s.events("<hostile@test>"), "\n")
	if !strings.Contains(events, "attempt: mx.later-final.test [127.77.3.") || !strings.Contains(events, "452 4.3.1 full") {
		t.Errorf("the trace does not tell of the attempts:\n%s", events)
	}
}

// memory is the server's resident set in MiB.
func (s *server) memory() int {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	kib := 0
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			break
		}
	}
	return kib >> 10
}

// TestStallingHosts has 200 hosts hold a connection each, as many as there may be, and say
// nothing more at one stage or another. A letter to a host in good health leaves all the same.
func TestStallingHosts(t *testing.T) {
	t.Parallel()
	const hosts = 200
	stages := []peer.Stage{peer.Connect, peer.Greeting, peer.Hello, peer.Mail, peer.Rcpt, peer.Data, peer.Body, peer.Final}
	zone := []string{"good.test. MX 1 mx.good.test.", "mx.good.test. A 127.77.4.1"}
	var posts []post
	for i := range hosts {
		zone = append(zone, fmt.Sprintf("h%d.test. MX 1 mx.h%d.test.", i, i), fmt.Sprintf("mx.h%d.test. A 127.77.5.%d", i, i+1))
		posts = append(posts, post{fmt.Sprintf("stall-%d@test", i), []string{fmt.Sprintf("x@h%d.test", i)}})
	}
	s := setup(t, plaintext)
	s.outward(newNames(t, zone...), "")
	var stalling []*peer.Peer
	for _, stage := range stages {
		stalling = append(stalling, peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: stage, Do: peer.Stall()}}}))
	}
	for i := range hosts {
		listenAt(t, stalling[i%len(stages)], fmt.Sprintf("127.77.5.%d", i+1), s.relayPort())
	}
	good := peer.Start(t, peer.Config{})
	listenAt(t, good, "127.77.4.1", s.relayPort())
	s.start()
	l := newLog()
	s.send(l, posts...)
	s.await("all hosts hold a connection", 20*time.Second, func() bool {
		n := 0
		for _, p := range stalling {
			n += p.Connections()
		}
		return n >= hosts
	})
	begun := time.Now()
	s.send(l, post{"good@test", []string{"x@good.test"}})
	s.await("the letter to the host in good health arrives", 10*time.Second, func() bool { return len(good.Messages()) == 1 })
	t.Logf("the letter took %s, the server takes %d MiB", time.Since(begun).Round(time.Millisecond), s.memory())
	// It has waited for none of them: they hold their connections yet, for minutes.
	waiting := 0
	for _, row := range s.list("queue", "list") {
		for _, r := range row["recipients"].([]any) {
			if x := r.(map[string]any); x["attempts"].(float64) == 0 {
				waiting++
			} else {
				t.Errorf("%v was given up before the letter to a host in good health had left: %v", x["destination"], x["last_status"])
			}
		}
	}
	if waiting != hosts {
		t.Errorf("%d letters wait for hosts that stall, want %d", waiting, hosts)
	}
}
