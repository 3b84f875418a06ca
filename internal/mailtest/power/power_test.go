package power_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/rebuild"
)

// files are the octets of a SQLite database on stable storage.
type files struct{ main, log []byte }

func readFiles(path string) (f files, err error) {
	if f.main, err = os.ReadFile(path); err != nil {
		return f, err
	}
	f.log, err = os.ReadFile(path + "-wal")
	return f, err
}

// put writes the files into a new folder, with no more than cut octets of the log and
// then litter, and opens the database.
func (f files) put(t *testing.T, cut int, litter []byte) (*db.SQLite, string) {
	t.Helper()
	folder := quickFolder(t)
	path := filepath.Join(folder, "poczta.db")
	log := append(f.log[:cut:cut], litter...)
	if err := os.WriteFile(path, f.main, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"-wal", log, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := db.OpenSQLite(context.Background(), db.SQLiteConfig{Path: path, ReadConns: 1})
	if err != nil {
		t.Fatalf("open database after the cut: %v", err)
	}
	return d, folder
}

// watchedDB has the power fail during every commit.
type watchedDB struct {
	db.Database
	around func(commit func() error) error
}

func (w *watchedDB) Update(ctx context.Context, fn func(db.Tx) error) error {
	return w.around(func() error { return w.Database.Update(ctx, fn) })
}

func (w *watchedDB) UpdateLow(ctx context.Context, fn func(db.Tx) error) error {
	return w.around(func() error { return w.Database.UpdateLow(ctx, fn) })
}

// cutter runs the script once and looks, at every call to the disk and at every
// commit, at what a power cut would leave.
type cutter struct {
	runner
	t      *testing.T
	path   string
	disk   *disk.Fault
	rnd    *rand.Rand
	seeds  uint64
	looked int
	calls  int
	cuts   int
	fault  func(format string, args ...any)
	stop   bool // after the first fault
	again  int  // every so many looks the store is used on, and rebuilt
}

// TestPowerCut cuts the power at every call to the disk of the segments, with several
// outcomes of what was not synced, and during every commit of the database at several
// octets of its log: always exactly what was acknowledged is there, the act under way
// wholly or not at all, check finds nothing, mail is taken again, and after the loss of the
// database as well a rebuild finds every acknowledged message.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	c := newCutter(t)
	if err := c.script(); err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		return
	}
	t.Logf("power was cut at %d calls and in %d commits; %d stores were looked at", c.calls, c.cuts, c.looked)
	if c.calls < 80 || c.cuts < 30 {
		t.Errorf("%d calls and %d commits: the script does not do what it should", c.calls, c.cuts)
	}
}

// newCutter returns a cutter over an empty store.
func newCutter(t *testing.T) *cutter {
	t.Helper()
	d, path := openDB(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &cutter{t: t, path: path, disk: disk.NewFault(seed), rnd: rand.New(rand.NewPCG(seed, 1)), seeds: 3, again: 7}
	if testing.Short() {
		c.seeds, c.again = 1, 23
	}
	c.fault = func(format string, args ...any) { t.Helper(); t.Errorf(format, args...); c.stop = true }
	c.runner = *newRunner(t, &watchedFS{Fault: c.disk, before: c.atCall}, &watchedDB{d, c.atCommit})
	c.failed = func(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
	return c
}

// openDB opens an empty database whose log only grows, and returns its path.
func openDB(t *testing.T) (*db.SQLite, string) {
	t.Helper()
	path := filepath.Join(quickFolder(t), "poczta.db")
	d, err := db.OpenSQLite(t.Context(), db.SQLiteConfig{Path: path, CheckpointPages: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close database: %v", err)
		}
	})
	if err := db.Migrate(t.Context(), d, components()); err != nil {
		t.Fatal(err)
	}
	return d, path
}

// quickFolder is a folder of the test in memory if there is such a place: what is on
// the disk after a cut is made up here, not asked of a disk.
func quickFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "poczta-power-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// TestPowerCutNoticesALiar holds the test against a disk that syncs nothing.
func TestPowerCutNoticesALiar(t *testing.T) {
	t.Parallel()
	c := newCutter(t)
	noticed := ""
	c.fault = func(format string, args ...any) { noticed, c.stop = fmt.Sprintf(format, args...), true }
	c.fsys = &watchedFS{Fault: c.disk, before: c.atCall, lies: true}
	if err := c.script(); err != nil {
		t.Fatal(err)
	}
	if noticed == "" {
		t.Errorf("a disk that syncs nothing was not noticed in %d stores", c.looked)
	}
}

// atCall looks at the store as if the power failed before the call: what was not
// synced until then is kept, lost or mixed, and the call under way with it.
func (c *cutter) atCall(what string) {
	if c.stop {
		return
	}
	c.calls++
	f, err := readFiles(c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	d, folder := f.put(c.t, len(f.log), nil)
	for range c.seeds {
		c.look(fmt.Sprintf("call %d (%s)", c.calls, what), d, folder, c.disk.Reopen(c.rnd.Uint64()))
	}
	c.drop(d, folder)
}

// atCommit looks at the store as if the power failed during the commit.
func (c *cutter) atCommit(commit func() error) error {
	if c.stop {
		return commit()
	}
	c.cuts++
	before, err := readFiles(c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	bodies := c.disk.Reopen(c.rnd.Uint64())
	if err := commit(); err != nil {
		return err
	}
	after, err := readFiles(c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	from, to := len(before.log), len(after.log)
	if to <= from { // nothing was written
		return nil
	}
	for i, cut := range []int{from, from + 1 + c.rnd.IntN(to-from-1), from + 1 + c.rnd.IntN(to-from-1), to - 1, to} {
		var litter []byte
		switch {
		case i%2 == 1: // sectors out of order
			litter = append(litter, after.log[cut:to]...)
			for at := 0; at < len(litter); at += 512 {
				if at == 0 || c.rnd.IntN(2) == 0 {
					clear(litter[at:min(at+512, len(litter))])
				}
			}
		case cut < to:
			litter = make([]byte, c.rnd.IntN(to-cut))
		}
		d, folder := after.put(c.t, cut, litter)
		c.look(fmt.Sprintf("commit %d, %d of %d octets", c.cuts, cut-from, to-from), d, folder, bodies)
		c.drop(d, folder)
	}
	return nil
}

func (c *cutter) drop(d *db.SQLite, folder string) {
	if err := d.Close(); err != nil {
		c.fault("close database: %v", err)
	}
	_ = os.RemoveAll(folder)
}

// look compares one outcome with the promise.
func (c *cutter) look(when string, d *db.SQLite, folder string, bodies *disk.Fault) {
	c.t.Helper()
	if c.stop {
		return
	}
	c.looked++
	ctx := context.Background()
	bodies = bodies.Reopen(c.rnd.Uint64()) // looked at once: recovery writes notes
	h, s, err := openHouse(c.t, bodies, d, c.clock)
	if err != nil {
		c.fault("%s: open: %v", when, err)
		return
	}
	got, err := look(ctx, h)
	if err == nil {
		err = whole(ctx, s)
	}
	if err != nil {
		c.fault("%s: %v", when, err)
	} else if diff := c.now.differs(got); diff != "" {
		if c.next == nil {
			c.fault("%s: %s", when, diff)
		} else if other := c.next.differs(got); other != "" {
			c.fault("%s: neither as before (%s) nor as after the act (%s)", when, diff, other)
		}
	}
	if err := s.Close(); err != nil {
		c.fault("%s: close: %v", when, err)
	}
	if c.looked%c.again == 0 && !c.stop {
		c.rebuilt(when, folder, bodies.Reopen(c.rnd.Uint64()), d.StoreID())
	}
}

// rebuilt loses the database as well: a rebuild finds every acknowledged message
// that was not removed, in INBOX or in Recovered.
func (c *cutter) rebuilt(when, folder string, bodies *disk.Fault, store string) {
	c.t.Helper()
	ctx := context.Background()
	data := filepath.Join(folder, "rebuild")
	if err := os.MkdirAll(data, 0o700); err != nil {
		c.t.Fatal(err)
	}
	fsys, err := disk.OS(data)
	if err != nil {
		c.t.Fatal(err)
	}
	defer fsys.Close()
	report, err := rebuild.Run(ctx, rebuild.Config{FS: fsys, Data: data, Database: "poczta.db", Components: components(), Segments: small(bodies, storeID(store))})
	if err != nil {
		c.fault("%s: %v", when, err)
		return
	}
	if report.Damaged > 0 {
		c.fault("%s: rebuild found damage: %+v", when, report)
	}
	d, err := db.OpenSQLite(ctx, db.SQLiteConfig{Path: filepath.Join(data, "poczta.db"), ReadConns: 1})
	if err != nil {
		c.fault("%s: %v", when, err)
		return
	}
	defer d.Close()
	h, s, err := openHouse(c.t, bodies, d, c.clock)
	if err != nil {
		c.fault("%s: after rebuild: %v", when, err)
		return
	}
	defer s.Close()
	if err := c.kept(ctx, h); err != nil {
		c.fault("%s: after rebuild: %v", when, err)
	}
	if err := whole(ctx, s); err != nil {
		c.fault("%s: after rebuild: %v", when, err)
	}
}

// kept reports what a rebuild has lost of what is there before and after the act
// under way.
func (c *cutter) kept(ctx context.Context, h *posttest.House) error {
	got, err := look(ctx, h)
	if err != nil {
		return err
	}
	for a := 1; a <= accounts; a++ {
		if err := walkRecovered(ctx, h, a, got); err != nil {
			return err
		}
		for text := range c.now.inbox[a] {
			if c.next != nil && !has(c.next.inbox[a], text) {
				continue
			}
			if !has(got.inbox[a], text) {
				return fmt.Errorf("account %d lost %s", a, subject(text))
			}
		}
	}
	for text := range c.now.queued {
		if c.next != nil && !has(c.next.queued, text) {
			continue
		}
		if !has(got.queued, text) {
			return fmt.Errorf("queue lost %s", subject(text))
		}
	}
	return nil
}

func has(m map[string]string, text string) bool { _, ok := m[text]; return ok }

// nothing is a database of which only the id is asked.
type nothing struct {
	db.Database
	id string
}

func storeID(id string) db.Database { return &nothing{id: id} }
func (n *nothing) StoreID() string  { return n.id }
func (n *nothing) Engine() string   { return "sqlite" }
