package backup_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/disk"
)

// memory is a Target in memory that ends its process, as it were, at a chosen call.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	calls   int  // that changed something
	dieAt   int  // the call at which everything fails from then on; 0 is never
	lost    bool // the call at which it dies has no effect
}

var errDead = errors.New("the process was killed")

func newMemory() *memory { return &memory{objects: map[string][]byte{}} }

func (m *memory) clone() *memory { return &memory{objects: maps.Clone(m.objects)} }

func (m *memory) change(fn func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.dieAt > 0 && m.calls > m.dieAt {
		return errDead
	}
	if m.dieAt == 0 || m.calls < m.dieAt || !m.lost {
		fn()
	}
	if m.dieAt > 0 && m.calls == m.dieAt {
		return errDead
	}
	return nil
}

func (m *memory) Put(_ context.Context, name string, data []byte) error {
	data = bytes.Clone(data)
	return m.change(func() { m.objects[name] = data })
}

func (m *memory) Create(_ context.Context, name string, data []byte) error {
	data = bytes.Clone(data)
	exists := false
	err := m.change(func() {
		if _, exists = m.objects[name]; !exists {
			m.objects[name] = data
		}
	})
	if exists {
		return fs.ErrExist
	}
	return err
}

func (m *memory) Get(_ context.Context, name string, from, n int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	b = b[min(from, int64(len(b))):]
	if n >= 0 && n < int64(len(b)) {
		b = b[:n]
	}
	return bytes.Clone(b), nil
}

func (m *memory) List(_ context.Context, prefix string, fn func(backup.Object) error) error {
	m.mu.Lock()
	var all []backup.Object
	for n, b := range m.objects {
		if strings.HasPrefix(n, prefix) {
			all = append(all, backup.Object{Name: n, Size: int64(len(b))})
		}
	}
	m.mu.Unlock()
	for _, o := range all {
		if err := fn(o); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Remove(_ context.Context, name string) error {
	return m.change(func() { delete(m.objects, name) })
}

// shelf is a Source of small and large things.
type shelf struct {
	rows   map[string]string // key to data
	bodies map[string][]byte // key to octets
	broken map[string]bool
	opened atomic.Int64
}

func (s *shelf) Kind() string                               { return "shelf" }
func (s *shelf) Origin() string                             { return "one" }
func (s *shelf) Facts() ([]byte, error)                     { return []byte(`{"shelf":true}`), nil }
func (s *shelf) Sections(context.Context) ([]string, error) { return []string{"rows", "bodies"}, nil }

func (s *shelf) Items(_ context.Context, section string, fn func(backup.Item) error) error {
	if section == "rows" {
		for _, k := range slices.Sorted(maps.Keys(s.rows)) {
			if err := fn(backup.Item{Key: []byte(k), Data: []byte(s.rows[k])}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(s.bodies)) {
		b := s.bodies[k]
		err := fn(backup.Item{Key: []byte(k), Octets: int64(len(b)), Open: func(context.Context) (io.ReadCloser, error) {
			s.opened.Add(1)
			if s.broken[k] {
				return nil, fmt.Errorf("read: %w", backup.ErrDamaged)
			}
			return io.NopCloser(bytes.NewReader(b)), nil
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// newShelf makes a shelf with n rows and n bodies, some of them equal, some large.
func newShelf(seed uint64, n int) *shelf {
	r := rand.New(rand.NewPCG(seed, 1))
	s := &shelf{rows: map[string]string{}, bodies: map[string][]byte{}, broken: map[string]bool{}}
	for i := range n {
		s.rows[fmt.Sprintf("row %06d", i)] = strings.Repeat(fmt.Sprint("data ", i, " "), r.IntN(9))
		s.bodies[fmt.Sprintf("%d body %06d", seed, i)] = letter(r)
	}
	return s
}

func letter(r *rand.Rand) []byte {
	size := r.IntN(6000)
	if r.IntN(50) == 0 {
		size = backup.PieceOctets + 1 + r.IntN(1<<18)
	}
	b := make([]byte, size)
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64()&0x3f3f3f3f3f3f3f3f)
	}
	return b
}

func (s *shelf) clone() *shelf {
	return &shelf{rows: maps.Clone(s.rows), bodies: maps.Clone(s.bodies), broken: maps.Clone(s.broken)}
}

// clock counts up at each look.
func clock() func() time.Time {
	var mu sync.Mutex
	t := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		t = t.Add(time.Second)
		return t
	}
}

var secret = backup.Key{Passphrase: "correct horse battery", WorkFactor: 4}

func open(t *testing.T, m backup.Target, k backup.Key, now func() time.Time) *backup.Repository {
	t.Helper()
	r := opened(t, m, k, now)
	t.Cleanup(r.Close)
	return r
}

// opened is for loops, which close what they opened: a test must not keep a thousand repositories.
func opened(t *testing.T, m backup.Target, k backup.Key, now func() time.Time) *backup.Repository {
	t.Helper()
	r, err := backup.OpenOrInit(t.Context(), backup.Config{Target: m, Key: k, Now: now, Host: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func create(t *testing.T, r *backup.Repository, s backup.Source) backup.Report {
	t.Helper()
	report, err := r.Create(t.Context(), s, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// holds compares a snapshot with the shelf that it was made of.
func holds(t *testing.T, r *backup.Repository, id string, want *shelf) {
	t.Helper()
	s, err := r.Snapshot(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	got := &shelf{rows: map[string]string{}, bodies: map[string][]byte{}}
	err = r.Items(t.Context(), s, "rows", nil, nil, func(it backup.Stored) error {
		got.rows[string(it.Key)] = string(it.Data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Items(t.Context(), s, "bodies", nil, nil, func(it backup.Stored) error {
		rd, err := it.Open(t.Context())
		if err != nil {
			return err
		}
		b, err := io.ReadAll(rd)
		got.bodies[string(it.Key)] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.rows, got.rows); diff != "" {
		t.Errorf("rows of %s (-want +got):\n%s", id, diff)
	}
	same := maps.EqualFunc(want.bodies, got.bodies, bytes.Equal)
	if !same {
		t.Errorf("bodies of %s are not what they were: %d, want %d", id, len(got.bodies), len(want.bodies))
	}
}

// sound verifies and wants no fault.
func sound(t *testing.T, r *backup.Repository) backup.Verification {
	t.Helper()
	v, err := r.Verify(t.Context(), func(f backup.Fault) { t.Errorf("fault: %s", f.Text()) })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func kinds(t *testing.T, run func(t *testing.T, k backup.Key)) {
	t.Helper()
	file, err := backup.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	key, err := backup.ParseKey([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]backup.Key{"plain": {}, "passphrase": secret, "key file": key} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, k)
		})
	}
}

func TestIncremental(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, k backup.Key) {
		m, now := newMemory(), clock()
		one := newShelf(1, 300)
		r := open(t, m, k, now)
		first := create(t, r, one)
		if first.NewItems != 300 || first.Items != 600 {
			t.Errorf("first backup: %+v", first)
		}
		two := one.clone()
		delete(two.rows, "row 000017")
		two.rows["row 000200"] = "changed"
		two.bodies["9 body 999999"] = []byte("new")
		two.bodies["9 body 999998"] = one.bodies["1 body 000007"] // content that is there already
		r = open(t, m, k, now)
		second := create(t, r, two)
		if second.NewItems != 2 || two.opened.Load() != 2 {
			t.Errorf("second backup read %d items anew, opened %d, want 2", second.NewItems, two.opened.Load())
		}
		if second.Parent != first.Snapshot {
			t.Errorf("parent is %q, want %q", second.Parent, first.Snapshot)
		}
		if second.Stored > 400<<10 || second.Stored*10 > first.Stored {
			t.Errorf("second backup stored %d octets, the first %d", second.Stored, first.Stored)
		}
		third := create(t, r, two.clone())
		if third.Stored != 0 {
			t.Errorf("a backup of what did not change stored %d octets of packs", third.Stored)
		}
		holds(t, r, first.Snapshot, one)
		holds(t, r, second.Snapshot, two)
		if v := sound(t, r); v.Snapshots != 3 || v.Items != 600+601+601 || v.Garbage != 0 {
			t.Errorf("verification: %+v", v)
		}
	})
}

func TestEncryptedHidesEverything(t *testing.T) {
	t.Parallel()
	m := newMemory()
	s := &shelf{rows: map[string]string{"login": "ala@example.org"}, bodies: map[string][]byte{"b": []byte("Subject: the secret plan")}}
	create(t, open(t, m, secret, clock()), s)
	for name, o := range m.objects {
		for _, word := range []string{"ala@", "secret plan", "shelf", "login"} {
			if bytes.Contains(o, []byte(word)) {
				t.Errorf("%s holds %q", name, word)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	m := newMemory()
	create(t, open(t, m, secret, clock()), newShelf(1, 3))
	plain := newMemory()
	create(t, open(t, plain, backup.Key{}, clock()), newShelf(1, 3))
	file, _ := backup.NewKeyFile()
	tests := []struct {
		name   string
		target *memory
		key    backup.Key
		want   error
	}{
		{"wrong passphrase", m, backup.Key{Passphrase: "incorrect horse"}, backup.ErrKey},
		{"a key file instead", m, backup.Key{Identities: file}, backup.ErrKey},
		{"no key", m, backup.Key{}, backup.ErrKey},
		{"the key", m, secret, nil},
		{"no repository", newMemory(), secret, backup.ErrNoRepository},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := backup.Open(t.Context(), backup.Config{Target: tt.target, Key: tt.key})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := backup.Open(t.Context(), backup.Config{Target: plain, Key: secret}); err == nil {
		t.Error("a key was accepted for a repository that is not encrypted")
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	m, now := newMemory(), clock()
	r := open(t, m, backup.Key{}, now)
	s := newShelf(1, 3)
	other := open(t, m, backup.Key{}, now)
	inside := &hooked{shelf: s, during: func() {
		if _, err := other.Create(t.Context(), newShelf(2, 3), time.Time{}); !errors.Is(err, backup.ErrLocked) {
			t.Errorf("a second backup at once: %v, want ErrLocked", err)
		}
		if _, err := other.Prune(t.Context(), backup.Rules{}); !errors.Is(err, backup.ErrLocked) {
			t.Errorf("prune during a backup: %v, want ErrLocked", err)
		}
	}}
	create(t, r, inside)
	// A writer that slept past its lock's end must not write its snapshot.
	slow := &hooked{shelf: s, during: func() {
		delete(m.objects, "lock")
		late := open(t, m, backup.Key{}, now)
		if _, err := late.Prune(t.Context(), backup.Rules{}); err != nil {
			t.Error(err)
		}
	}}
	if _, err := r.Create(t.Context(), slow, time.Time{}); !errors.Is(err, backup.ErrLocked) {
		t.Errorf("a backup that lost its lock: %v, want ErrLocked", err)
	}
	if names, _ := r.Names(t.Context()); len(names) != 1 {
		t.Errorf("snapshots: %v, want one", names)
	}
	if len(m.objects["lock"]) > 0 {
		t.Error("a lock stays behind")
	}
}

// hooked is a shelf that does something while it is read.
type hooked struct {
	*shelf
	during func()
}

func (h *hooked) Items(ctx context.Context, section string, fn func(backup.Item) error) error {
	if section == "bodies" {
		h.during()
	}
	return h.shelf.Items(ctx, section, fn)
}

func TestDamageIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, k backup.Key) {
		one := newShelf(3, 60)
		base, now := newMemory(), clock()
		report := create(t, open(t, base, k, now), one)
		for name := range base.objects {
			for _, how := range []string{"flip", "cut", "remove"} {
				m := base.clone()
				o := bytes.Clone(m.objects[name])
				switch how {
				case "flip":
					o[len(o)*3/4] ^= 4
					m.objects[name] = o
				case "cut":
					m.objects[name] = o[:len(o)/2]
				case "remove":
					delete(m.objects, name)
				}
				r, err := backup.Open(t.Context(), backup.Config{Target: m, Key: k, Now: now})
				if err != nil {
					if !strings.HasPrefix(name, "keys/") && name != "poczta-backup.json" {
						t.Errorf("%s %s: %v", how, name, err)
					}
					continue
				}
				if name == "poczta-backup.json" {
					continue // flipped where it does not matter
				}
				var faults []backup.Fault
				v, err := r.Verify(t.Context(), func(f backup.Fault) { faults = append(faults, f) })
				if err != nil {
					t.Errorf("%s %s: %v", how, name, err)
				}
				if strings.HasPrefix(name, "snapshots/") && how == "remove" {
					continue // as if it had been forgotten
				}
				if len(faults) == 0 || v.Faults != int64(len(faults)) {
					t.Errorf("%s %s: %d faults, counted %d", how, name, len(faults), v.Faults)
					continue
				}
				if !slices.ContainsFunc(faults, func(f backup.Fault) bool { return f.Snapshot == report.Snapshot }) {
					t.Errorf("%s %s: no fault names the backup that is affected: %v", how, name, faults)
				}
				if strings.HasPrefix(name, "snapshots/") {
					continue
				}
				if _, err := r.Prune(t.Context(), backup.Rules{}); err == nil && how != "flip" {
					t.Errorf("%s %s: prune went on", how, name)
				}
			}
		}
	})
}

func TestWhatTheSourceCantRead(t *testing.T) {
	t.Parallel()
	s := newShelf(4, 20)
	s.broken["4 body 000003"] = true
	r := open(t, newMemory(), secret, clock())
	report := create(t, r, s)
	if report.Damaged != 1 || len(report.Names) != 1 || !strings.Contains(report.Names[0], fmt.Sprintf("%x", "4 body 000003")) {
		t.Errorf("report: %+v", report)
	}
	sound(t, r)
	snap, err := r.Snapshot(t.Context(), report.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	it, err := r.Item(t.Context(), snap, "bodies", []byte("4 body 000003"))
	if err != nil || !it.Lost {
		t.Errorf("item: %+v, %v; want it lost", it, err)
	}
	if _, err := it.Open(t.Context()); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("open: %v, want ErrDamaged", err)
	}
	delete(s.broken, "4 body 000003") // mended
	if again := create(t, r, s); again.NewItems != 1 || again.Damaged != 0 {
		t.Errorf("after mending: %+v", again)
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	s := newShelf(5, 3000)
	clear(s.bodies)
	r := open(t, newMemory(), backup.Key{}, clock())
	report := create(t, r, s)
	snap, err := r.Snapshot(t.Context(), report.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Sorted(maps.Keys(s.rows))
	for _, tt := range [][2]int{{0, 3000}, {0, 1}, {17, 18}, {1500, 1700}, {2999, 3000}, {5, 5}} {
		var from, to []byte
		if tt[0] > 0 {
			from = []byte(all[tt[0]])
		}
		if tt[1] < 3000 {
			to = []byte(all[tt[1]])
		}
		var got []string
		err := r.Items(t.Context(), snap, "rows", from, to, func(it backup.Stored) error {
			got = append(got, string(it.Key))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, all[tt[0]:tt[1]]) {
			t.Errorf("rows %v: got %d", tt, len(got))
		}
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	m, start := newMemory(), time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)
	at := start
	r := open(t, m, backup.Key{}, func() time.Time { return at })
	for day := range 120 {
		for _, hour := range []int{0, 12} {
			at = start.AddDate(0, 0, day).Add(time.Duration(hour) * time.Hour)
			create(t, r, &shelf{rows: map[string]string{"day": at.String()}})
		}
	}
	done, err := r.Prune(t.Context(), backup.Rules{Daily: 7, Weekly: 4, Monthly: 12})
	if err != nil {
		t.Fatal(err)
	}
	left, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var days []string
	for _, s := range left {
		days = append(days, s.Time.Format("01-02T15"))
	}
	want := []string{"01-31T15", "02-28T15", "03-31T15", "04-12T15", "04-19T15", "04-24T15", "04-25T15", "04-26T15", "04-27T15", "04-28T15", "04-29T15", "04-30T15"}
	if diff := cmp.Diff(want, days); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if len(done.Forgotten) != 240-len(want) || done.Freed <= 0 {
		t.Errorf("pruned: %d forgotten, %d octets freed", len(done.Forgotten), done.Freed)
	}
	if v := sound(t, r); v.Garbage > 1<<20 {
		t.Errorf("%d octets of garbage stay", v.Garbage)
	}
}

func TestPruneFrees(t *testing.T) {
	t.Parallel()
	m, now := newMemory(), clock()
	r := open(t, m, secret, now)
	s := newShelf(6, 1200)
	create(t, r, s)
	half := s.clone()
	for i := range 600 {
		delete(half.bodies, fmt.Sprintf("6 body %06d", 2*i))
	}
	last := create(t, r, half)
	before := size(m)
	done, err := r.Prune(t.Context(), backup.Rules{Last: 1})
	if err != nil {
		t.Fatal(err)
	}
	if done.Rewritten == 0 || before-size(m) < before/4 {
		t.Errorf("pruned %+v: %d octets, before %d", done, size(m), before)
	}
	holds(t, r, last.Snapshot, half)
	if v := sound(t, r); v.Garbage != 0 {
		t.Errorf("garbage: %d", v.Garbage)
	}
}

func size(m *memory) (n int64) {
	for _, o := range m.objects {
		n += int64(len(o))
	}
	return n
}

// TestFolder runs on the real target's code: power fails at every call, and the disk is full.
func TestFolder(t *testing.T) {
	t.Parallel()
	one, two := newShelf(1, 25), newShelf(2, 25)
	now := clock()
	for at := 1; ; at++ {
		f := disk.NewFault(uint64(at))
		begun := opened(t, backup.NewFolder(f, "b"), backup.Key{}, now)
		first := create(t, begun, one)
		begun.Close()
		f.CutAt(f.Calls() + at)
		r, err := backup.Open(t.Context(), backup.Config{Target: backup.NewFolder(f, "b"), Now: now})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Create(t.Context(), two, time.Time{})
		r.Close()
		if err == nil {
			break
		}
		again := opened(t, backup.NewFolder(f.Reopen(uint64(at)), "b"), backup.Key{}, func() time.Time { return now().Add(time.Hour) })
		holds(t, again, first.Snapshot, one)
		sound(t, again)
		report := create(t, again, two)
		holds(t, again, report.Snapshot, two)
		again.Close()
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	f, now := disk.NewFault(1), clock()
	one := newShelf(1, 40)
	r := open(t, backup.NewFolder(f, "."), backup.Key{}, now)
	first := create(t, r, one)
	f.SetCapacity(f.Used() + 100<<10)
	_, err := r.Create(t.Context(), newShelf(2, 400), time.Time{})
	if !disk.IsFull(err) {
		t.Fatalf("got %v, want a full disk", err)
	}
	holds(t, r, first.Snapshot, one)
	sound(t, r)
	f.SetCapacity(0)
	create(t, r, newShelf(2, 400))
	sound(t, r)
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte("\x01a\x01b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		backup.DecodeAll(b)
	})
}
