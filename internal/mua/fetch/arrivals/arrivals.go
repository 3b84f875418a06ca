// Package arrivals keeps letters that have come from a server, and are not in the store yet, in two files. A
// fetch whose process was killed finds them there and asks the server only for what had not come whole.
//
// It is an aid and no promise. Nothing waits for the disk: what a process has written is there when it is
// gone, and what a power cut leaves is held against a hash before it counts. Where the disk refuses it or has little
// room, the fetch does without.
package arrivals

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"poczta.example/poczta/internal/disk"
)

// Bounds.
const (
	// fileOctets is how long a file grows before the other is written, whose letters must all be in the store.
	fileOctets = 1 << 20
	// roomOctets is the free space below which nothing is kept, beside four times a letter's own size.
	roomOctets = 64 << 20
	bufOctets  = 64 << 10
)

// Server tells accounts' servers apart: letters of one are none of another's with the same unique-ids.
type Server [8]byte

// ServerOf names the mailbox of a login on a host.
func ServerOf(host string, port int, login string) (s Server) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s", host, port, login))
	copy(s[:], sum[:])
	return s
}

// Letter is one that came whole before the process ended.
type Letter struct {
	Key    string   // in the journal of fetches
	Told   int64    // octets, as the server told them
	Octets int64    // that came
	SHA256 [32]byte // of these; whoever reads them compares

	file  disk.File
	start int64
}

// Open returns the letter's octets, which may be other than they were.
func (l *Letter) Open() io.Reader { return io.NewSectionReader(l.file, l.start, l.Octets) }

// Files are the two files of an account. Methods are for one goroutine, but for those of Place.
type Files struct {
	fsys   disk.FS
	server Server
	log    *slog.Logger
	names  [2]string
	left   [2]disk.File // of an earlier process, until Clear
	places [2]*Place    // of this one
	at     int          // which is written
	buf    []byte
	off    bool // nothing is kept any more
}

// Place is a file with letters that are on their way into the store. Its method may be called from any goroutine.
type Place struct {
	file    disk.File
	end     int64
	waiting atomic.Int64
}

// Landed says that one of its letters is in the store. Harmless for nil.
func (p *Place) Landed() {
	if p != nil {
		p.waiting.Add(-1)
	}
}

// names of an account's files, in the root of the tree.
func names(account int64) [2]string {
	return [2]string{fmt.Sprintf("arriving-%d-a", account), fmt.Sprintf("arriving-%d-b", account)}
}

// New makes nothing yet. logger is told why letters are not kept.
func New(fsys disk.FS, account int64, server Server, logger *slog.Logger) *Files {
	return &Files{fsys: fsys, server: server, log: logger, names: names(account)}
}

// Left returns by key what an earlier process left for this server. Only Clear lets new letters be kept then.
func (f *Files) Left() map[string]*Letter {
	found := map[string]*Letter{}
	for i, name := range f.names {
		file, err := f.fsys.Open(name)
		if err != nil {
			continue
		}
		f.left[i] = file
		f.scan(file, found)
	}
	return found
}

// Clear removes what an earlier process left.
func (f *Files) Clear() {
	for i, file := range f.left {
		if file == nil {
			continue
		}
		_ = file.Close() // it was only read
		f.left[i] = nil
		f.remove(f.names[i])
	}
}

// Put keeps a letter of octets, which lie in text. The place that it returns, nil when the letter is not
// kept, must hear when it has landed.
func (f *Files) Put(key string, told, octets int64, sum [32]byte, text io.ReaderAt) *Place {
	if f.off || len(key) > maxKey || octets >= 1<<20 && !f.roomy(octets) {
		return nil
	}
	p, err := f.place()
	if p == nil {
		f.giveUp(err)
		return nil
	}
	end, err := f.write(p, key, told, octets, sum, text)
	if err != nil {
		f.giveUp(err)
		return nil
	}
	p.end = end
	p.waiting.Add(1)
	return p
}

// write puts a letter behind the others and returns its end.
func (f *Files) write(p *Place, key string, told, octets int64, sum [32]byte, text io.ReaderAt) (end int64, err error) {
	if f.buf == nil {
		f.buf = make([]byte, bufOctets)
	}
	r := record{server: f.server, told: told, octets: octets, sum: sum}
	held, end := r.put(f.buf, key), p.end
	for at := int64(0); at < octets || held > 0; {
		n := int(min(int64(len(f.buf)-held), octets-at))
		if got, err := text.ReadAt(f.buf[held:held+n], at); got < n {
			return 0, fmt.Errorf("read the letter: %w", err)
		}
		if _, err := p.file.WriteAt(f.buf[:held+n], end); err != nil {
			return 0, err
		}
		end, at, held = end+int64(held+n), at+int64(n), 0
	}
	return end, nil
}

// place returns the file to write to. While the letters of the other are not in the store, one grows. nil without an
// error means that there is little room.
func (f *Files) place() (*Place, error) {
	p := f.places[f.at]
	if p != nil && p.end < fileOctets {
		return p, nil
	}
	if p != nil {
		next := f.places[1-f.at]
		if next != nil && next.waiting.Load() > 0 {
			return p, nil
		}
		f.at = 1 - f.at
		if next != nil {
			next.end = 0
			return next, nil
		}
	}
	if !f.roomy(fileOctets) {
		return nil, nil
	}
	file, err := f.fsys.Create(f.names[f.at])
	if err != nil {
		return nil, err
	}
	f.places[f.at] = &Place{file: file}
	return f.places[f.at], nil
}

// roomy reports whether the disk has room to spare for so many octets more.
func (f *Files) roomy(octets int64) bool {
	free, err := f.fsys.Free()
	return err == nil && free-4*octets >= roomOctets
}

// giveUp keeps nothing any more, and gives back the room of what was. err may be nil.
func (f *Files) giveUp(err error) {
	f.off = true
	f.log.Info("letters on their way are not kept for the case that this program is killed", "error", err)
	f.end(true)
}

// Close ends it. What has not landed stays for the next process.
func (f *Files) Close() { f.end(false) }

func (f *Files) end(drop bool) {
	for i, file := range f.left {
		if file != nil {
			_ = file.Close() // it was only read
			f.left[i] = nil
		}
	}
	for i, p := range f.places {
		if p == nil {
			continue
		}
		err := p.file.Close()
		f.places[i] = nil
		if drop || err != nil || p.waiting.Load() == 0 {
			f.remove(f.names[i])
		}
	}
	f.off = true
}

// remove removes a file, best effort: it says nothing that is not known otherwise.
func (f *Files) remove(name string) {
	if err := f.fsys.Remove(name); err != nil {
		f.log.Info("letters that were kept on their way stay on the disk until the next fetch", "file", name, "error", err)
	}
}

// Forget removes what there is for an account that no fetch runs for.
func Forget(fsys disk.FS, account int64) {
	for _, name := range names(account) {
		_ = fsys.Remove(name) // mostly there is none
	}
}
