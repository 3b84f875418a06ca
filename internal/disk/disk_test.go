package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/disk"
)

// each runs a test on the real file system and on the double.
func each(t *testing.T, test func(t *testing.T, fsys disk.FS)) {
	t.Helper()
	t.Run("os", func(t *testing.T) {
		t.Parallel()
		fsys, err := disk.OS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer fsys.Close()
		test(t, fsys)
	})
	t.Run("fault", func(t *testing.T) {
		t.Parallel()
		test(t, disk.NewFault(1))
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, fsys disk.FS) {
		must(t, fsys.MkdirAll("a/b"))
		must(t, fsys.MkdirAll("a/b"))
		f, err := fsys.Create("a/b/f")
		must(t, err)
		_, err = f.Write([]byte("hello"))
		must(t, err)
		_, err = f.WriteAt([]byte("J"), 0)
		must(t, err)
		_, err = f.WriteAt([]byte("end"), 8)
		must(t, err)
		_, err = f.Write([]byte("!"))
		must(t, err)
		must(t, f.Sync())
		size, err := f.Size()
		if size != 12 || err != nil {
			t.Errorf("size %d, %v", size, err)
		}
		must(t, f.Truncate(11))
		must(t, f.Close())
		b, err := disk.ReadFile(fsys, "a/b/f", 100)
		if diff := cmp.Diff([]byte("Jello\x00\x00\x00end"), b); err != nil || diff != "" {
			t.Errorf("%v, %s", err, diff)
		}
		if _, err := disk.ReadFile(fsys, "a/b/f", 10); !errors.Is(err, disk.ErrTooLong) {
			t.Errorf("read with a limit: %v", err)
		}
		testNames(t, fsys)
		if free, err := fsys.Free(); free <= 0 || err != nil {
			t.Errorf("free %d, %v", free, err)
		}
	})
}

// testNames tests what concerns names, in a tree that holds a/b/f of 11 octets.
func testNames(t *testing.T, fsys disk.FS) {
	t.Helper()
	if _, err := fsys.Create("a/b/f"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create twice: %v", err)
	}
	for _, name := range []string{"a/b/none", "none/f"} {
		if _, err := fsys.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %s: %v", name, err)
		}
	}
	must(t, fsys.Rename("a/b/f", "a/g"))
	must(t, fsys.SyncDir("a"))
	info, err := fsys.Stat("a/g")
	if diff := cmp.Diff(disk.Info{Name: "g", Size: 11}, info); err != nil || diff != "" {
		t.Errorf("stat: %v, %s", err, diff)
	}
	names, err := fsys.List("a")
	if diff := cmp.Diff([]string{"b", "g"}, names); err != nil || diff != "" {
		t.Errorf("list: %v, %s", err, diff)
	}
	f, err := fsys.OpenAppend("a/g")
	must(t, err)
	must(t, fsys.Remove("a/g"))
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, 0); err != nil || one[0] != 'J' {
		t.Errorf("read of a removed file that is open: %q, %v", one, err)
	}
	if _, err := f.ReadAt(one, 11); !errors.Is(err, io.EOF) {
		t.Errorf("read behind the end: %v", err)
	}
	must(t, f.Close())
	if err := fsys.Remove("a/g"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove twice: %v", err)
	}
	if err := fsys.Remove("a"); err == nil {
		t.Error("a folder that is not empty was removed")
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, fsys disk.FS) {
		l, err := fsys.Lock("lock")
		must(t, err)
		if _, err := fsys.Lock("lock"); !errors.Is(err, disk.ErrLocked) {
			t.Errorf("second lock: %v, want ErrLocked", err)
		}
		must(t, l.Close())
		l, err = fsys.Lock("lock")
		must(t, err)
		must(t, l.Close())
	})
}

func TestOSStaysBelowItsRoot(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	must(t, os.Mkdir(filepath.Join(top, "root"), 0o700))
	must(t, os.WriteFile(filepath.Join(top, "secret"), []byte("x"), 0o600))
	must(t, os.Symlink("../secret", filepath.Join(top, "root", "link")))
	fsys, err := disk.OS(filepath.Join(top, "root"))
	must(t, err)
	defer fsys.Close()
	for _, name := range []string{"../secret", "link", "/etc/passwd"} {
		if _, err := fsys.Open(name); err == nil {
			t.Errorf("%s leads out of the root", name)
		}
	}
}

// Whenever the power fails, the name leads to the old octets or to the new ones.
func TestWriteFilePowerCut(t *testing.T) {
	t.Parallel()
	old, now := bytes.Repeat([]byte("old"), 700), bytes.Repeat([]byte("new!"), 900)
	for k := 1; ; k++ {
		fsys := disk.NewFault(uint64(k))
		must(t, disk.WriteFile(fsys, "f", old))
		fsys.CutAt(fsys.Calls() + k)
		writeErr := disk.WriteFile(fsys, "f", now)
		seen := map[string]bool{}
		for seed := range uint64(40) {
			after := fsys.Reopen(seed)
			b, err := disk.ReadFile(after, "f", 1<<20)
			switch {
			case err == nil && bytes.Equal(b, old):
				seen["old"] = true
			case err == nil && bytes.Equal(b, now):
				seen["new"] = true
			default:
				t.Fatalf("cut at call %d, seed %d: %d octets, %v", k, seed, len(b), err)
			}
			must(t, disk.WriteFile(after, "f", now)) // also over what was left
		}
		if writeErr == nil {
			if seen["old"] || k < 4 {
				t.Errorf("after %d calls and success: %v", k-1, seen)
			}
			return
		}
		if !errors.Is(writeErr, disk.ErrPowerCut) {
			t.Errorf("cut at call %d: %v", k, writeErr)
		}
	}
}

// What was not synced is kept, lost, or mixed; what was synced stays.
func TestFaultForgets(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	f, err := fsys.Create("f")
	must(t, err)
	_, err = f.Write(bytes.Repeat([]byte("a"), 4096))
	must(t, err)
	must(t, f.Sync())
	must(t, fsys.SyncDir("."))
	_, err = f.WriteAt(bytes.Repeat([]byte("b"), 4096), 2048)
	must(t, err)
	_, err = fsys.Create("unsynced name")
	must(t, err)
	outcomes, names := map[string]bool{}, map[int]bool{}
	for seed := range uint64(60) {
		after := fsys.Reopen(seed)
		b, err := disk.ReadFile(after, "f", 1<<20)
		must(t, err)
		if len(b) < 4096 || !bytes.Equal(b[:2048], bytes.Repeat([]byte("a"), 2048)) {
			t.Fatalf("seed %d: synced octets are lost", seed)
		}
		kind := ""
		for i := 2048; i < len(b); i += 512 {
			kind += string(b[i : i+1])
		}
		outcomes[kind] = true
		list, err := after.List(".")
		must(t, err)
		names[len(list)] = true
	}
	if !outcomes["aaaa"] || !outcomes["bbbbbbbb"] || len(outcomes) < 10 || len(names) != 2 {
		t.Errorf("%d outcomes, names %v", len(outcomes), names)
	}
	must(t, f.Sync())
	b, err := disk.ReadFile(fsys.Reopen(3), "f", 1<<20)
	if len(b) != 6144 || err != nil || b[6143] != 'b' {
		t.Errorf("after sync: %d octets, %v", len(b), err)
	}
}

func TestFaultFails(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(5)
	f, err := fsys.Create("f")
	must(t, err)
	must(t, fsys.SyncDir("."))
	fsys.FailAt(disk.OpSync, 1, syscall.EIO)
	_, err = f.Write(bytes.Repeat([]byte("x"), 5000))
	must(t, err)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v, want EIO", err)
	}
	must(t, f.Sync()) // says nothing of what was lost before
	lost := false
	for seed := range uint64(20) {
		b, err := disk.ReadFile(fsys.Reopen(seed), "f", 1<<20)
		must(t, err)
		lost = lost || !bytes.Equal(b, bytes.Repeat([]byte("x"), 5000))
	}
	if !lost {
		t.Error("a failed sync lost nothing")
	}
	fsys.SetCapacity(6000)
	n, err := f.Write(make([]byte, 2000))
	if n != 1000 || !disk.IsFull(err) {
		t.Errorf("write to a full disk: %d octets, %v", n, err)
	}
	if free, err := fsys.Free(); free != 0 || err != nil {
		t.Errorf("free: %d, %v", free, err)
	}
	must(t, fsys.Remove("f"))
	if fsys.Used() != 0 {
		t.Errorf("%d octets are used after removal", fsys.Used())
	}
	for _, op := range []disk.Op{disk.OpCreate, disk.OpMkdir} {
		fsys.FailAt(op, 1, syscall.EACCES)
	}
	_, err = fsys.Create("g")
	if err := errors.Join(err, fsys.MkdirAll("h/i")); !errors.Is(err, syscall.EACCES) {
		t.Errorf("failing calls: %v", err)
	}
	fsys.Cut()
	if _, err := fsys.Open("f"); !errors.Is(err, disk.ErrPowerCut) {
		t.Errorf("open without power: %v", err)
	}
	if got := fmt.Sprint(disk.OpSyncDir, disk.Op(99)); got != "syncdir op(99)" {
		t.Errorf("names of calls: %s", got)
	}
}
