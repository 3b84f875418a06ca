package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/disk"
)

// TestKilledAtEveryStep kills Create and Prune at each call that changes the target.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	one, two := newShelf(1, 60), newShelf(2, 60)
	base, now := newMemory(), clock()
	r := open(t, base, secret, now)
	first := create(t, r, one)
	both := base.clone()
	second := create(t, open(t, both, secret, now), two)
	hurt := both.clone()
	spoil(t, hurt, first.Snapshot)

	works := []struct {
		name string
		from *memory
		do   func(context.Context, *backup.Repository) error
		want map[string]*shelf // what stays, whatever happens
	}{
		{"create", base, func(ctx context.Context, r *backup.Repository) error {
			_, err := r.Create(ctx, two, time.Time{})
			return err
		}, map[string]*shelf{first.Snapshot: one}},
		{"prune", both, func(ctx context.Context, r *backup.Repository) error {
			_, err := r.Prune(ctx, backup.Rules{Last: 1})
			return err
		}, map[string]*shelf{second.Snapshot: two}},
		{"forget", both, func(ctx context.Context, r *backup.Repository) error {
			err := r.Forget(ctx, first.Snapshot)
			if errors.Is(err, backup.ErrNotFound) {
				err = nil // it was done before the kill
			}
			return err
		}, map[string]*shelf{second.Snapshot: two}},
		{"repair and create", hurt, func(ctx context.Context, r *backup.Repository) error {
			_, err := r.Repair(ctx, func(backup.Fault) {})
			if err == nil {
				_, err = r.Create(ctx, two, time.Time{})
			}
			return err
		}, nil},
	}
	for _, w := range works {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lost %v", w.name, lost), func(t *testing.T) {
				t.Parallel()
				steps := 0
				for at := 1; ; at++ {
					m := w.from.clone()
					m.dieAt, m.lost = at, lost
					dying, err := backup.Open(t.Context(), backup.Config{Target: m, Key: secret, Now: now})
					if err != nil {
						t.Fatal(err)
					}
					done := w.do(t.Context(), dying) == nil
					dying.Close()
					if done {
						break
					}
					steps++
					m.dieAt, m.calls = 0, 0
					late := func() time.Time { return now().Add(time.Hour) } // the dead one's lock has expired
					again := opened(t, m, secret, late)
					names, err := again.Names(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					for id, want := range w.want {
						holds(t, again, id, want)
					}
					if w.want != nil {
						sound(t, again)
					}
					if err := w.do(t.Context(), again); err != nil {
						t.Fatalf("killed at call %d (snapshots %v), then: %v", at, names, err)
					}
					sound(t, again)
					again.Close()
				}
				if steps < 3 {
					t.Errorf("only %d steps were tried", steps)
				}
			})
		}
	}
}

// spoil removes a pack that the backup keep, and no other, does without.
func spoil(t *testing.T, m *memory, keep string) {
	t.Helper()
	var packs []string
	for name := range m.objects {
		if strings.HasPrefix(name, "packs/") {
			packs = append(packs, name)
		}
	}
	if len(packs) < 2 {
		t.Fatalf("there are %d packs, want one of each backup", len(packs))
	}
	for _, name := range packs {
		one := m.clone()
		delete(one.objects, name)
		r := opened(t, one, secret, clock())
		good := intact(t, r)
		r.Close()
		if slices.Equal(good, []string{keep}) {
			delete(m.objects, name)
			return
		}
	}
	t.Fatal("no pack is needed by the newest backup alone")
}

// intact names the backups without a fault.
func intact(t *testing.T, r *backup.Repository) []string {
	t.Helper()
	names, err := r.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string]bool{}
	if _, err := r.Verify(t.Context(), func(f backup.Fault) { bad[f.Snapshot] = true }); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return bad[n] })
}

// TestInitKilledAtEveryStep kills the first backup of all; the next one makes a repository
// that the same key opens.
func TestInitKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	one, now := newShelf(1, 20), clock()
	late := func() time.Time { return now().Add(time.Hour) }
	first := func(m *memory, now func() time.Time) error {
		r, err := backup.OpenOrInit(t.Context(), backup.Config{Target: m, Key: secret, Now: now})
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = r.Create(t.Context(), one, time.Time{})
		return err
	}
	for _, lost := range []bool{false, true} {
		for at := 1; ; at++ {
			m := newMemory()
			m.dieAt, m.lost = at, lost
			if first(m, now) == nil {
				if at < 6 {
					t.Errorf("only %d steps were tried", at)
				}
				break
			}
			m.dieAt, m.calls = 0, 0
			if err := first(m, late); err != nil {
				t.Fatalf("killed at call %d, then: %v", at, err)
			}
			keys := 0
			for name := range m.objects {
				if strings.HasPrefix(name, "keys/") {
					keys++
				}
			}
			if keys != 1 {
				t.Errorf("killed at call %d there are %d keys, want one", at, keys)
			}
			r := opened(t, m, secret, late)
			sound(t, r)
			names, err := r.Names(t.Context())
			if err != nil || len(names) == 0 {
				t.Fatalf("killed at call %d: snapshots %v, %v", at, names, err)
			}
			holds(t, r, names[len(names)-1], one)
			r.Close()
		}
	}
}

// TestLockOfTheDead takes over the lock of a process of this machine that is gone, and of no
// other.
func TestLockOfTheDead(t *testing.T) {
	t.Parallel()
	if backup.Machine() == "" {
		t.Skip("this system does not tell whether a process is gone")
	}
	dead := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	pid, began := dead.Process.Pid, backup.Started(dead.Process.Pid)
	if err := dead.Wait(); err != nil || began == "" {
		t.Fatalf("the process: %v, began %q", err, began)
	}
	tests := []struct {
		name             string
		pid              int
		machine, started string
		want             error
	}{
		{"gone", pid, backup.Machine(), began, nil},
		{"its number given again", os.Getpid(), backup.Machine(), "1", nil},
		{"alive", os.Getpid(), backup.Machine(), backup.Started(os.Getpid()), backup.ErrLocked},
		{"of another machine", pid, "another", began, backup.ErrLocked},
		{"of an older program", pid, "", "", backup.ErrLocked},
		{"that does not say since when it is", pid, backup.Machine(), "", backup.ErrLocked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, now := newMemory(), clock()
			r := open(t, m, backup.Key{}, now)
			m.objects["lock"] = fmt.Appendf(nil, `{"id":"x","process":%d,"work":"create","expires":"2026-11-01T12:10:00Z","machine":%q,"started":%q}`, tt.pid, tt.machine, tt.started)
			_, err := r.Create(t.Context(), newShelf(1, 3), time.Time{})
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestPruneTidies removes what a killed Put has left in a folder.
func TestPruneTidies(t *testing.T) {
	t.Parallel()
	f := disk.NewFault(1)
	r := open(t, backup.NewFolder(f, "copies"), secret, clock())
	create(t, r, newShelf(1, 30))
	left := []string{"copies/packs/ab/cdef.part", "copies/index/1.part", "copies/snapshots/2.part"}
	for _, name := range left {
		if err := errors.Join(f.MkdirAll(path.Dir(name)), disk.WriteFile(f, name, make([]byte, 1000))); err != nil {
			t.Fatal(err)
		}
	}
	done, err := r.Prune(t.Context(), backup.Rules{})
	if err != nil || done.Freed < 3000 {
		t.Errorf("prune: %+v, %v", done, err)
	}
	for _, name := range left {
		if _, err := f.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want it gone", name, err)
		}
	}
	sound(t, r)
}
