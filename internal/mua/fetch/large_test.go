package fetch_test

import (
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/profile"
)

// announced changes the size that LIST tells of a letter.
func announced(number, octets string) poppeer.Rule {
	return poppeer.Rule{Stage: poppeer.List, Do: poppeer.EachLine("announced", func(line string) string {
		if n, _, _ := strings.Cut(line, " "); n == number {
			return n + " " + octets
		}
		return line
	})}
}

// TestTooLarge has letters that are, by the server's word, larger than the store takes: the others
// come, of these the header sections where they can be had alone, and none is deleted.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	for _, octets := range []string{"1073741825", "2147483648", "9223372036854775807"} {
		for _, noTOP := range []bool{false, true} {
			mail := poppeer.Letters(9, 500)
			h := newHouse(t, poppeer.Config{Messages: mail, NoTOP: noTOP, Rules: []poppeer.Rule{announced("3", octets)}}, profile.Fetched)
			res := h.sync(t)
			if res.Fetched != 8 || res.Deleted != 8 || res.Headers != 1-len(res.Refused) || len(h.peer.Messages()) != 1 {
				t.Errorf("%s, without TOP %v: %+v", octets, noTOP, res)
			}
			for _, p := range h.done {
				if p.Octets < 0 || p.TotalOctets < p.Octets {
					t.Errorf("progress: %+v", p)
				}
			}
		}
	}
	s := openStore(t, t.TempDir())
	defer s.Close()
	for octets, want := range map[int64]error{1 << 30: nil, 1<<30 + 1: body.ErrTooLarge} {
		staged, err := s.Body().Stage(t.Context(), octets)
		if !errors.Is(err, want) {
			t.Errorf("the store takes %d octets: %v", octets, err)
		}
		if err == nil {
			staged.Discard()
		}
	}
}
