package backup_test

import (
	"bytes"
	"strings"
	"testing"

	"poczta.example/poczta/internal/backup"
)

// TestRepair damages each object in each way, repairs, makes a backup of the same source,
// and wants all snapshots whole again. The lock, keys and snapshots can't be made anew.
func TestRepair(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, k backup.Key) {
		one := newShelf(3, 60)
		base, now := newMemory(), clock()
		first := create(t, open(t, base, k, now), one)
		tried := 0
		for name := range base.objects {
			if !strings.HasPrefix(name, "packs/") && !strings.HasPrefix(name, "index/") {
				continue
			}
			for _, how := range []string{"flip", "cut", "remove"} {
				tried++
				m := base.clone()
				o := bytes.Clone(m.objects[name])
				switch how {
				case "flip":
					o[len(o)/2] ^= 1
					m.objects[name] = o
				case "cut":
					m.objects[name] = o[:len(o)/3]
				case "remove":
					delete(m.objects, name)
				}
				r, err := backup.Open(t.Context(), backup.Config{Target: m, Key: k, Now: now})
				if err != nil {
					t.Fatal(err)
				}
				found, err := r.Repair(t.Context(), func(backup.Fault) {})
				if err != nil || found.Faults == 0 {
					t.Errorf("%s %s: repair found %d faults: %v", how, name, found.Faults, err)
					continue
				}
				second := create(t, r, one.clone())
				sound(t, r)
				holds(t, r, first.Snapshot, one)
				holds(t, r, second.Snapshot, one)
				if _, err := r.Prune(t.Context(), backup.Rules{Last: 1}); err != nil {
					t.Errorf("%s %s: prune: %v", how, name, err)
				}
				sound(t, r)
				r.Close()
			}
		}
		if tried < 6 {
			t.Errorf("only %d damages were tried", tried)
		}
	})
}
