package backup_test

import (
	"bytes"
	"context"
	"slices"
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

// TestBeyondRepair damages all packs of a backup whose source loses a letter before the next one: Verify
// says that a new backup may heal it, and after that one that no other does. It can be forgotten.
func TestBeyondRepair(t *testing.T) {
	t.Parallel()
	one := newShelf(5, 40)
	m, now := newMemory(), clock()
	r := open(t, m, backup.Key{}, now)
	first := create(t, r, one)
	for name, o := range m.objects {
		if strings.HasPrefix(name, "packs/") {
			o = bytes.Clone(o)
			o[len(o)/2] ^= 1
			m.objects[name] = o
		}
	}
	verify := func(fn func(context.Context, func(backup.Fault)) (backup.Verification, error)) backup.Verification {
		t.Helper()
		v, err := fn(t.Context(), func(backup.Fault) {})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := verify(r.Repair)
	if v.Damaged == 0 || !slices.Equal(v.Broken, []string{first.Snapshot}) || !slices.Equal(v.Healable, v.Broken) || v.Beyond() != nil {
		t.Fatalf("damaged: %+v", v)
	}
	other := newShelf(6, 40)
	second := create(t, r, other)
	v = verify(r.Verify)
	if v.Damaged != 0 || v.Faults == 0 || !slices.Equal(v.Broken, []string{first.Snapshot}) || v.Healable != nil || !slices.Equal(v.Beyond(), v.Broken) {
		t.Errorf("after a new backup of what has changed: %+v", v)
	}
	if err := r.Forget(t.Context(), first.Snapshot); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Prune(t.Context(), backup.Rules{}); err != nil {
		t.Error(err)
	}
	sound(t, r)
	holds(t, r, second.Snapshot, other)
}
