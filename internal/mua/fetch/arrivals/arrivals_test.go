package arrivals

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"poczta.example/poczta/internal/disk"
)

var here = ServerOf("pop.peer.example", 995, "us")

// another process looks at the same disk.
func another(fsys disk.FS) *Files { return New(fsys, 7, here, slog.New(slog.DiscardHandler)) }

// put keeps a letter of so many octets.
func put(f *Files, key string, octets int) *Place {
	text := letter(key, octets)
	return f.Put(key, int64(octets+3), int64(octets), sha256.Sum256(text), bytes.NewReader(text))
}

// letter makes octets that follow from the key.
func letter(key string, octets int) []byte {
	return bytes.Repeat([]byte(key+"\r\n"), octets/len(key)+1)[:octets]
}

// whole fails unless a letter is as it was put, and returns whether it is there.
func whole(t *testing.T, found map[string]*Letter, key string, octets int) bool {
	t.Helper()
	l := found[key]
	if l == nil {
		return false
	}
	text, err := io.ReadAll(l.Open())
	if err != nil {
		t.Fatal(err)
	}
	if l.Key != key || l.Told != int64(octets+3) || l.Octets != int64(octets) || !bytes.Equal(text, letter(key, octets)) || sha256.Sum256(text) != l.SHA256 {
		t.Errorf("%s: %d octets told %d, %d came", key, len(text), l.Told, l.Octets)
	}
	return true
}

func there(fsys disk.FS) (n int) {
	for _, name := range names(7) {
		if _, err := fsys.Stat(name); err == nil {
			n++
		}
	}
	return n
}

// TestLeft finds what was put, of each size, after the process is gone, and nothing of another server.
func TestLeft(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	f := another(fsys)
	sizes := map[string]int{"uempty": 0, "uone": 1, "ubuffer": bufOctets, "ulonger": bufOctets + 1, "ularge": 3<<20 + 17, "u" + strings.Repeat("k", maxKey-1): 400}
	for key, octets := range sizes {
		if put(f, key, octets) == nil {
			t.Fatalf("%s is not kept", key)
		}
	}
	if put(f, strings.Repeat("k", maxKey+1), 10) != nil {
		t.Error("a key without end is kept")
	}
	// The process is killed: nothing is closed.
	found := another(fsys).Left()
	for key, octets := range sizes {
		if !whole(t, found, key, octets) {
			t.Errorf("%.20s of %d octets is not found", key, octets)
		}
	}
	other := New(fsys, 7, ServerOf("pop.peer.example", 995, "them"), slog.New(slog.DiscardHandler))
	if n := len(other.Left()); n != 0 {
		t.Errorf("%d letters are found for another login", n)
	}
	again := another(fsys)
	again.Left()
	again.Close() // it could not take them: they stay
	if n := len(another(fsys).Left()); n != len(sizes) {
		t.Errorf("%d letters are found the next time", n)
	}
	again = another(fsys)
	again.Left()
	again.Clear()
	if there(fsys) != 0 || len(another(fsys).Left()) != 0 || put(again, "unew", 5) == nil {
		t.Error("behind Clear something is left, or nothing new is kept")
	}
}

// TestAlternate has many letters land one behind the other: two files of bounded length hold them, and whatever has
// not landed is found.
func TestAlternate(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	f := another(fsys)
	rnd := rand.New(rand.NewPCG(1, 2))
	type waits struct {
		key    string
		octets int
		place  *Place
	}
	var queue []waits
	for i := range 2000 {
		w := waits{key: fmt.Sprintf("u%d", i), octets: rnd.IntN(60_000)}
		if w.place = put(f, w.key, w.octets); w.place == nil {
			t.Fatalf("%s is not kept", w.key)
		}
		for queue = append(queue, w); len(queue) > 40; queue = queue[1:] {
			queue[0].place.Landed()
		}
		if i%400 == 399 {
			found := another(fsys).Left()
			for _, w := range queue {
				if !whole(t, found, w.key, w.octets) {
					t.Fatalf("behind %d letters %s is not found", i+1, w.key)
				}
			}
		}
	}
	if used := fsys.Used(); used > 6*fileOctets {
		t.Errorf("%d octets are kept", used)
	}
	for _, w := range queue {
		w.place.Landed()
	}
	f.Close()
	if there(fsys) != 0 {
		t.Error("files stay though everything has landed")
	}
	(*Place)(nil).Landed()
}

// TestPowerCut has the power fail behind some letters: what is found is whole, or its hash says that it is not.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	sound, broken := 0, 0
	for seed := range uint64(40) {
		fsys := disk.NewFault(seed)
		f := another(fsys)
		for i := range 30 {
			put(f, fmt.Sprintf("u%d", i), 3000)
		}
		for key, l := range another(fsys.Reopen(seed)).Left() {
			text, err := io.ReadAll(l.Open())
			if err != nil {
				t.Fatal(err)
			}
			if sha256.Sum256(text) != l.SHA256 {
				broken++
				continue
			}
			sound++
			if !bytes.Equal(text, letter(key, 3000)) {
				t.Errorf("%s is another letter", key)
			}
		}
	}
	if sound == 0 || broken == 0 {
		t.Errorf("%d sound letters and %d broken ones are left; this tests nothing", sound, broken)
	}
}

// TestDiskRefuses has each call on the disk fail: nothing is kept any more, nothing stays on the disk, and nobody waits.
func TestDiskRefuses(t *testing.T) {
	t.Parallel()
	for _, kind := range []disk.Op{disk.OpCreate, disk.OpWrite} {
		for k := 1; k < 4; k++ {
			fsys := disk.NewFault(1)
			fsys.FailAt(kind, k, syscall.ENOSPC)
			f := another(fsys)
			for i := range 5 {
				put(f, fmt.Sprintf("u%d", i), 9<<20).Landed()
			}
			if fsys.CallsOf(kind) < k {
				continue
			}
			if put(f, "ulater", 10) != nil || there(fsys) != 0 {
				t.Errorf("%v %d: %d files stay", kind, k, there(fsys))
			}
			f.Close()
		}
	}
	fsys := disk.NewFault(1)
	fsys.SetCapacity(roomOctets)
	if put(another(fsys), "u", 10) != nil {
		t.Error("on a disk with little room a letter is kept")
	}
	fsys.SetCapacity(roomOctets + 4*fileOctets + 1<<20)
	f := another(fsys)
	if put(f, "usmall", 10) == nil || put(f, "ularge", 20<<20) != nil {
		t.Error("a letter is kept that takes a quarter of the room there is, or a small one is not")
	}
	f.Close()
	f = another(fsys)
	f.Left()
	if put(f, "u", 10) != nil { // what was left is not cleared
		t.Error("letters are put over those that are left")
	}
	Forget(fsys, 7)
	if there(fsys) != 0 {
		t.Error("Forget left something")
	}
}

// unreadable gives up in the middle.
type unreadable struct{}

func (unreadable) ReadAt(p []byte, _ int64) (int, error) { return len(p) / 2, errors.ErrUnsupported }

func TestLetterUnreadable(t *testing.T) {
	t.Parallel()
	f := another(disk.NewFault(1))
	if f.Put("u", 10, 10, [32]byte{}, unreadable{}) != nil {
		t.Error("half a letter is kept")
	}
}

// FuzzLeft reads any octets as a file of letters: what is found lies within it.
func FuzzLeft(f *testing.F) {
	fsys := disk.NewFault(1)
	a := another(fsys)
	put(a, "uone", 20)
	put(a, "utwo", 300)
	seed, err := disk.ReadFile(fsys, names(7)[0], 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(append(seed, seed[:70]...))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := disk.NewFault(1)
		if err := disk.WriteFile(fsys, names(7)[1], b); err != nil {
			t.Fatal(err)
		}
		files := another(fsys)
		for key, l := range files.Left() {
			text, err := io.ReadAll(l.Open())
			if err != nil || int64(len(text)) != l.Octets || len(key) > len(b) {
				t.Errorf("%q: %d octets of %d: %v", key, len(text), l.Octets, err)
			}
		}
		files.Clear()
		if _, err := fsys.Stat(names(7)[1]); !errors.Is(err, fs.ErrNotExist) {
			t.Error("it stays")
		}
	})
}
