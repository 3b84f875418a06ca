package outbox_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mua/outbox"
)

var update = flag.Bool("update", false, "write the golden files anew")

// faults are what a server may do wrong once.
func faults() []peer.Fault {
	return []peer.Fault{peer.Drop(), peer.RST(), peer.Stall(), peer.Garbage(), peer.Reply("451 4.3.0 later"), peer.Reply("421 4.3.2 closing"), peer.Reply("554 5.7.1 no")}
}

// TestMatrix has a server misbehave once, in every way at every stage, with two recipients of whom
// the fault meets the first where a stage is theirs. The golden file says what became of each after
// the first attempt, and after the server was well again; whatever it says, nobody gets two copies,
// who is sent has one, and who has none still waits, was refused, or is for a person to decide.
func TestMatrix(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	lines := map[string]string{}
	var order []string
	t.Run("faults", func(t *testing.T) {
		for _, repeats := range []string{"", "X-POCZTA-REPEATS 604800"} {
			for _, stage := range peer.Stages() {
				if stage == peer.StartTLS || stage == peer.Handshake || stage == peer.Auth {
					continue // the lines' matter, before an outbox sees the session
				}
				if repeats != "" && stage != peer.Rcpt && stage != peer.Body && stage != peer.Final {
					continue // nothing left, so it makes no difference
				}
				for _, fault := range faults() {
					name := fmt.Sprintf("%v %v %s", stage, fault, strings.ToLower(strings.Fields(repeats + " -")[0]))
					order = append(order, name)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						got := misbehave(t, stage, fault, repeats)
						mu.Lock()
						defer mu.Unlock()
						lines[name] = got
					})
				}
			}
		}
	})
	var b strings.Builder
	for _, name := range order {
		fmt.Fprintf(&b, "%s: %s\n", name, lines[name])
	}
	file := filepath.Join("testdata", "matrix.txt")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func misbehave(t *testing.T, stage peer.Stage, fault peer.Fault, repeats string) string {
	rule := peer.Rule{Stage: stage, Times: 1, Do: fault}
	if stage == peer.Body {
		rule.Do = fault.AfterOctets(10)
	}
	ext := []string{"PIPELINING", "SIZE 100000", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES"}
	if repeats != "" {
		ext = append(ext, repeats)
	}
	h := newHouse(t, peer.Config{Extensions: ext, Rules: []peer.Rule{rule}}, nil)
	id := h.put(outbox.Letter{Recipients: []string{"one@them.example", "two@them.example"}})
	if fault.Delay < 0 { // where it says nothing a moment will do; healthy servers have their minutes
		h.lines.patient(stage)
	}
	h.flush()
	h.lines.patient(peer.StartTLS)
	first := told(h, id)
	mustBeTrue(t, h, id, repeats != "")
	h.peer.SetRules()
	h.clock.Advance(time.Hour)
	h.flush()
	second := told(h, id)
	mustBeTrue(t, h, id, repeats != "")
	if second == first {
		return first
	}
	return first + " → " + second
}

// told is the state of each recipient.
func told(h *house, id outbox.ID) string {
	var all []string
	for _, p := range h.item(id).Recipients {
		all = append(all, string(p.State))
	}
	if len(all) == 2 && all[0] == all[1] {
		return "both " + all[0]
	}
	return strings.Join(all, ", ")
}

// mustBeTrue holds an entry's states against what the server has.
func mustBeTrue(t *testing.T, h *house, id outbox.ID, repeats bool) {
	t.Helper()
	it := h.item(id)
	for _, p := range it.Recipients {
		n := h.peer.Copies()[peer.Copy{MessageID: it.MessageID, Rcpt: p.Address}]
		switch {
		case n > 1 && !repeats: // a server that offers it would have made one of them
			t.Errorf("%s got %d copies", p.Address, n)
		case p.State == outbox.Sent && n == 0:
			t.Errorf("%s is sent, and has none", p.Address)
		case n == 1 && (p.State == outbox.Waiting && !repeats || p.State == outbox.Refused):
			t.Errorf("%s is %s, and has it", p.Address, p.State)
		}
	}
}

// TestDecide has a person decide about a letter that was perhaps sent.
func TestDecide(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		decision outbox.Decision
		copies   int
	}{"done": {outbox.Done, 1}, "again": {outbox.Again, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Times: 1, Do: peer.Drop()}}}, nil)
			id := h.put(outbox.Letter{})
			h.flush()
			it := h.must(id, outbox.Perhaps)
			h.clock.Advance(1000 * time.Hour)
			if err := h.flush(); err != nil {
				t.Fatal(err)
			}
			h.must(id, outbox.Perhaps)
			if err := h.Decide(t.Context(), id, tt.decision); err != nil {
				t.Fatal(err)
			}
			if err := h.flush(); err != nil {
				t.Fatal(err)
			}
			h.must(id, outbox.Sent)
			if n := h.peer.Copies()[peer.Copy{MessageID: it.MessageID, Rcpt: "ewa@them.example"}]; n != tt.copies {
				t.Errorf("%d copies, want %d", n, tt.copies)
			}
			if err := h.Decide(t.Context(), id, outbox.Again); err == nil {
				t.Error("decided twice")
			}
		})
	}
}

// TestRecognised has a server that recognises letters get one again, octet for octet, and only
// while it surely knows it.
func TestRecognised(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		later   time.Duration
		offered []string
		want    outbox.State
	}{
		"soon":            {time.Minute, nil, outbox.Sent},
		"when it forgets": {7*24*time.Hour - time.Minute, nil, outbox.Perhaps},
		"when it stopped": {time.Minute, []string{"PIPELINING"}, outbox.Perhaps},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, peer.Config{Extensions: []string{"X-POCZTA-REPEATS 604800"}, Rules: []peer.Rule{{Stage: peer.Final, Times: 1, Do: peer.Drop()}}}, nil)
			id := h.put(outbox.Letter{})
			h.flush()
			h.must(id, outbox.Waiting)
			h.clock.Advance(tt.later)
			if tt.offered != nil {
				h.peer = peer.Start(t, peer.Config{Extensions: tt.offered})
				h.online()
			}
			h.flush()
			h.must(id, tt.want)
			if all := h.peer.Messages(); tt.want == outbox.Sent && (len(all) != 2 || string(all[0].Data) != string(all[1].Data)) {
				t.Errorf("not octet for octet: %d messages", len(all))
			}
		})
	}
}
