package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/poppeer"
)

// Bounds of what a hostile server may cost.
const (
	mostOctets = int64(900) << 20 // of memory: an idle sync has 110 MiB, scrypt's 64 among them, one of a million letters 600
	mostWork   = 60 * time.Second // of processors: what others have them for does not count
	mostTime   = mostWork * patience
)

// bounded fails when a command took too long or too much memory.
func (s *siege) bounded(name string, r ran) {
	s.t.Helper()
	if r.took > mostTime || r.worked > mostWork || r.octets > mostOctets {
		s.t.Errorf("%s: %s took %v, %v of them at work, and %d MiB", name, r.commands, r.took, r.worked, r.octets>>20)
	}
	for _, bad := range []string{"panic", "goroutine ", "%!", "\x1b", password} {
		if strings.Contains(r.out, bad) {
			s.t.Errorf("%s: %s says %q:\n%.2000s", name, r.commands, bad, r.out)
		}
	}
}

// TestPersonDroppedAtEachCommand breaks the line at each command and within a letter: what was
// fetched stays, the rest comes the next time, nothing comes twice, nothing is deleted that is not here.
func TestPersonDroppedAtEachCommand(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(12, 3000)
	s := newSiege(t, "", mail, "--keep", "fetched")
	for i, fault := range []poppeer.Fault{poppeer.Drop(), poppeer.EndlessLine(), poppeer.Reply("-ERR [SYS/TEMP] \x1b[31mżle\x00")} {
		for _, stage := range poppeer.Stages() {
			switch stage {
			case poppeer.Stls, poppeer.Handshake, poppeer.UTF8, poppeer.Auth, poppeer.Stat, poppeer.Noop, poppeer.Rset, poppeer.Top:
				continue
			case poppeer.Retr, poppeer.Body, poppeer.Quit:
			default:
				if i > 0 { // where nothing is at stake one fault will do
					continue
				}
			}
			s.pop.SetMessages(mail...)
			name := fmt.Sprintf("%v at %v", fault, stage)
			at := fault
			if stage == poppeer.Body {
				at = fault.AfterOctets(1000)
			}
			s.pop.SetRules(poppeer.Rule{Stage: stage, Nth: 3 * boolean(stage == poppeer.Retr || stage == poppeer.Body || stage == poppeer.Dele), Times: 1, Do: at})
			s.bounded(name, s.runs("", "sync"))
			s.kept(name, mail)
			if t.Failed() {
				return
			}
		}
	}
	s.pop.SetRules()
	s.pop.SetMessages(mail...)
	s.does("", "sync")
	s.does("", "sync")
	if here := s.kept("in the end", mail); here != len(mail) || len(s.pop.Messages()) != 0 {
		t.Errorf("%d of %d letters are here, %d on the server", here, len(mail), len(s.pop.Messages()))
	}
	if s.measured == 0 {
		t.Error("of no command it is known how much memory it had")
	}
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestPersonHostileListings meets servers that lie about what they have.
func TestPersonHostileListings(t *testing.T) {
	t.Parallel()
	const letters = 20
	announce := func(n int, octets string) poppeer.Fault {
		return poppeer.EachLine("announced", func(line string) string {
			if number, _, _ := strings.Cut(line, " "); number == fmt.Sprint(n) {
				return number + " " + octets
			}
			return line
		})
	}
	s := newSiege(t, "", nil, "--keep", "fetched")
	for n, c := range []struct {
		name  string
		rules []poppeer.Rule
		come  int // letters that come in spite of it
	}{
		{"2 GiB announced", []poppeer.Rule{{Stage: poppeer.List, Do: announce(3, "2147483648")}}, letters - 1},
		{"8 EiB announced", []poppeer.Rule{{Stage: poppeer.List, Do: announce(3, "9223372036854775807")}}, letters - 1},
		{"2 GiB, twice as many digits", []poppeer.Rule{{Stage: poppeer.List, Do: announce(3, strings.Repeat("9", 40))}}, 0},
		{"sizes times thousand", []poppeer.Rule{{Stage: poppeer.List, Do: poppeer.WrongSizes()}}, letters},
		{"no octets announced", []poppeer.Rule{{Stage: poppeer.List, Do: announce(3, "0")}}, letters},
		{"the same unique-ids", []poppeer.Rule{{Stage: poppeer.Uidl, Do: poppeer.SameIDs()}}, letters},
		{"unique-ids that are none", []poppeer.Rule{{Stage: poppeer.Uidl, Do: poppeer.BadIDs()}}, letters},
		{"no unique-ids in UIDL", []poppeer.Rule{{Stage: poppeer.Uidl, Do: poppeer.NoIDs()}}, letters},
		{"a letter without unique-id", []poppeer.Rule{{Stage: poppeer.Uidl, Do: poppeer.Missing()}}, letters},
		{"a unique-id of nothing", []poppeer.Rule{{Stage: poppeer.Uidl, Do: poppeer.Stranger()}}, 0},
		{"two unique-ids", []poppeer.Rule{{Stage: poppeer.Uidl, Do: poppeer.Twice()}}, 0},
		{"a letter listed twice", []poppeer.Rule{{Stage: poppeer.List, Do: poppeer.Twice()}}, 0},
		{"a letter not listed", []poppeer.Rule{{Stage: poppeer.List, Do: poppeer.Missing()}, {Stage: poppeer.Uidl, Do: poppeer.Missing()}}, 0},
		{"a listing without end", []poppeer.Rule{{Stage: poppeer.List, Do: poppeer.Endless()}}, 0},
		{"a unique-id without end", []poppeer.Rule{{Stage: poppeer.Uidl, Do: poppeer.EndlessLine()}}, 0},
		{"a greeting without end", []poppeer.Rule{{Stage: poppeer.Greeting, Do: poppeer.EndlessLine()}}, 0},
		{"capabilities without end", []poppeer.Rule{{Stage: poppeer.Capa, Do: poppeer.Endless()}}, 0},
		{"a letter without end", []poppeer.Rule{{Stage: poppeer.Retr, Match: "3", Do: poppeer.Endless()}}, 0},
		{"a million letters that are not there", []poppeer.Rule{
			{Stage: poppeer.List, Do: poppeer.Edited("million", func(lines []string) []string { return padded(lines, 1_000_000, "%d 100") })},
			{Stage: poppeer.Uidl, Do: poppeer.Edited("million", func(lines []string) []string { return padded(lines, 1_000_000, "%d uid-of-some-length-%[1]d") })}}, letters},
	} {
		mail := poppeer.Letters(letters, 2000)
		for i := range mail { // others than those of the case before
			mail[i].ID += fmt.Sprintf("-%d", n)
			mail[i].Data = append(mail[i].Data, c.name+"\r\n"...)
		}
		s.pop.SetMessages(mail...)
		s.pop.SetRules(c.rules...)
		r := s.runs("", "sync")
		s.bounded(c.name, r)
		if here := s.kept(c.name, mail); here < c.come {
			t.Errorf("%s: %d of %d letters are here, want %d:\n%.1000s", c.name, here, letters, c.come, r.out)
		}
		s.pop.SetRules()
		s.does("", "sync")
		if len(s.pop.Messages()) > 0 {
			s.does("", "sync")
		}
		if here := s.kept(c.name+", from an honest server", mail); here != letters {
			t.Errorf("%s: %d of %d letters are here in the end", c.name, here, letters)
		}
	}
}

// padded adds lines to a listing until there are n.
func padded(lines []string, n int, format string) []string {
	lines = slices.Clone(lines)
	for i := len(lines) + 1; i <= n; i++ {
		lines = append(lines, fmt.Sprintf(format, i))
	}
	return lines
}
