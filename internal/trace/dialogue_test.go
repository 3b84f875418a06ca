package trace_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/trace"
)

func TestAttempts(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		r := b.record(t, "a@x.example", "<1@x>", "l>far@y.example", "m>far@z.example")
		at := b.clock.Now().UTC()
		long := "S: 220 begin\r\n" + strings.Repeat("C: NOOP\r\nS: 250 2.0.0 OK\r\n", 4000) + "S: 421 end\r\n"
		b.update(t, func(tx db.Tx) error {
			return errors.Join(
				b.NoteAttempt(tx, r.ID, trace.Attempt{At: at, N: 0, Host: "mx.y.example [192.0.2.1]", TLS: "TLS1.3", Status: "450 4.2.1 later"}),
				b.NoteAttempt(tx, r.ID, trace.Attempt{At: at, N: 1, Status: "no host"}),
				b.NoteDialogue(tx, r.ID, 0, at, trace.PackDialogue([]byte("first"))),
				b.NoteDialogue(tx, r.ID, 0, at.Add(time.Second), trace.PackDialogue([]byte(long))),
				b.NoteDialogue(tx, r.ID, 1, at, trace.PackDialogue(nil)),
			)
		})
		events, err := b.Events(t.Context(), trace.Viewer{Operator: true}, r.ID)
		want := []trace.Event{{At: at, N: 0, Kind: "attempt", Detail: "mx.y.example [192.0.2.1] (TLS1.3): 450 4.2.1 later"}, {At: at, N: 1, Kind: "attempt", Detail: "no host"}}
		if diff := cmp.Diff(want, events); diff != "" || err != nil {
			t.Errorf("events %v (-want +got):\n%s", err, diff)
		}
		all, err := b.Dialogues(t.Context(), trace.Viewer{Operator: true}, r.ID)
		if err != nil || len(all) != 1 || all[0].N != 0 || !all[0].At.Equal(at.Add(time.Second)) {
			t.Fatalf("dialogues %v, %v", all, err)
		}
		if s := all[0].Text; len(s) > trace.MaxDialogueOctets || !strings.HasPrefix(s, "S: 220 begin\r\n") || !strings.HasSuffix(s, "S: 421 end\r\n") || !strings.Contains(s, "[…]") {
			t.Errorf("%d octets: %.40q … %q", len(s), s, s[len(s)-40:])
		}
		if _, err := b.Dialogues(t.Context(), trace.Viewer{Account: 1}, r.ID); !errors.Is(err, trace.ErrNotFound) {
			t.Errorf("a person sees a dialogue: %v", err)
		}
		b.clock.Advance(trace.DefaultKeepEvents + time.Hour)
		if err := b.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if all, err := b.Dialogues(t.Context(), trace.Viewer{Operator: true}, r.ID); len(all) != 0 || err != nil {
			t.Errorf("left after the time of events: %v, %v", all, err)
		}
	})
}
