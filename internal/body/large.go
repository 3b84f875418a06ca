package body

import (
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"time"

	"poczta.example/poczta/internal/disk"
)

// largeGap is left in front of a large body for the segment header, the record
// header, the metadata and the head, which are known last. It takes no space.
const largeGap = 1 << 20

// largeBuffer is how much of a large body is gathered for one write, in octets.
const largeBuffer = 64 << 10

// maxStagedFiles bounds the files of messages that are not committed yet: open files
// are scarce, too. More is ErrBudget.
const maxStagedFiles = 1000

// largeFile is a large message on its way into a segment of its own. Its segment
// is pinned until it is discarded or the release of its Commit is called.
type largeFile struct {
	s      *Segments
	name   string
	file   disk.File
	gap    int64
	sum    uint32 // CRC-32C of the octets
	octets int64  // written to the file
	buf    *buffer
	held   int  // octets in buf
	kept   bool // committed
}

// newLarge creates the segment of a large message. Nothing in it counts before
// commit wrote the segment header.
func (s *Segments) newLarge(gap int64) (*largeFile, error) {
	if s.short() {
		return nil, fmt.Errorf("stage large message: less than %d octets are free: %w", s.config.Reserve, ErrFull)
	}
	if s.larges.Add(1) > maxStagedFiles {
		s.larges.Add(-1)
		return nil, ErrBudget
	}
	buf, err := s.mem.get(largeBuffer)
	if err != nil {
		s.larges.Add(-1)
		return nil, err
	}
	name := s.newName(suffixLarge)
	file, err := s.config.FS.Create(s.path(name))
	if err != nil {
		s.larges.Add(-1)
		s.mem.put(buf)
		s.unpin(name)
		return nil, storeError("create segment "+name, err)
	}
	return &largeFile{s: s, name: name, file: file, gap: gap, buf: buf}, nil
}

// Write takes more octets.
func (l *largeFile) Write(p []byte) (int, error) {
	all := len(p)
	for len(p) > 0 {
		n := copy(l.buf.b[l.held:], p)
		l.held += n
		p = p[n:]
		if l.held == len(l.buf.b) {
			if err := l.flush(); err != nil {
				return 0, err
			}
		}
	}
	return all, nil
}

// flush writes what the buffer holds.
func (l *largeFile) flush() error {
	p := l.buf.b[:l.held]
	if _, err := l.file.WriteAt(p, l.gap+l.octets); err != nil {
		return storeError("write segment "+l.name, err)
	}
	l.sum = updateCRC(l.sum, p)
	l.octets += int64(l.held)
	l.held = 0
	return nil
}

// ReadAt reads what was written.
func (l *largeFile) ReadAt(p []byte, off int64) (int, error) {
	if l.held > 0 {
		if err := l.flush(); err != nil {
			return 0, err
		}
	}
	return l.file.ReadAt(p, l.gap+off)
}

// discard gives everything back; what was committed stays in the store.
func (l *largeFile) discard() {
	if l.buf == nil {
		return
	}
	l.s.mem.put(l.buf)
	l.s.larges.Add(-1)
	l.buf = nil
	_ = l.file.Close() // committed octets are synced, others are of no interest
	if !l.kept {
		l.remove()
	}
}

// remove unlinks the segment and takes its pin away.
func (l *largeFile) remove() {
	if err := l.s.config.FS.Remove(l.s.path(l.name)); err != nil {
		l.s.config.Logger.Warn("unused segment could not be removed; store merge will do it", "segment", l.name, "error", err)
	}
	l.s.unpin(l.name)
}

// commitLarge commits those entries that have a segment of their own and returns
// the segments, each pinned once.
func (s *Segments) commitLarge(entries []*entry) (pinned []string, err error) {
	for _, e := range entries {
		l, ok := e.staged.over.(*largeFile)
		if !ok {
			continue
		}
		if s.short() {
			return nil, fmt.Errorf("commit body %s: less than %d octets are free: %w", e.record.ID, s.config.Reserve, ErrFull)
		}
		if l, err = l.withRoom(e); err != nil {
			return nil, err
		}
		if err := l.commit(e); err != nil {
			e.staged.failed = err // its file is never written again
			return nil, fmt.Errorf("commit body %s: %w", e.record.ID, err)
		}
		pinned = append(pinned, l.name)
	}
	return pinned, nil
}

// undoLarge removes the segment of an entry whose batch failed after it was
// committed.
func (s *Segments) undoLarge(e *entry) {
	if l, ok := e.staged.over.(*largeFile); ok && l.kept {
		l.kept = false
		e.staged.failed = fmt.Errorf("another message of its batch failed: %w", ErrFailed)
		e.staged.over = nil
		l.discard()
	}
}

// withRoom returns l, or a copy of it with a larger gap when the metadata and the
// head do not fit into the gap.
func (l *largeFile) withRoom(e *entry) (*largeFile, error) {
	need := segmentHeader + e.loc.Stored - e.staged.octets - recordTrailer
	if need <= l.gap {
		return l, nil
	}
	larger, err := l.s.newLarge((need + largeGap) &^ (largeGap - 1))
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyBuffer(larger, io.NewSectionReader(l, 0, e.staged.octets), make([]byte, largeBuffer)); err != nil {
		larger.discard()
		return nil, fmt.Errorf("copy large message: %w", err)
	}
	l.discard()
	e.staged.over = larger
	return larger, nil
}

// commit completes the segment: first everything but the segment header, then, as
// all of that is durable, the header. So a segment with a header is whole.
func (l *largeFile) commit(e *entry) error {
	if l.held > 0 {
		if err := l.flush(); err != nil {
			return err
		}
	}
	start := l.gap - (e.loc.Stored - e.staged.octets - recordTrailer)
	head := segmentHead{flags: flagLarge, created: time.Now(), first: start, origin: l.name}
	if err := l.s.fillSalt(&head.salt); err != nil {
		return err
	}
	front := make([]byte, recordHeaderLen, l.gap-start)
	h := e.head(start, start)
	h.put(front, &head.salt)
	front = append(append(front, e.meta...), e.record.Head...)
	sum := combineCRC(updateCRC(0, front[recordHeaderLen:]), l.sum, l.octets)
	trailer := binary.BigEndian.AppendUint32(nil, recordSum(sum, front))
	for _, part := range []struct {
		octets []byte
		offset int64
	}{{front, start}, {trailer, l.gap + l.octets}} {
		if _, err := l.file.WriteAt(part.octets, part.offset); err != nil {
			return storeError("write segment "+l.name, err)
		}
	}
	if err := l.file.Sync(); err != nil {
		return storeError("sync segment "+l.name, err)
	}
	if _, err := l.file.WriteAt(head.encode(), 0); err != nil {
		return storeError("write segment "+l.name, err)
	}
	if err := l.file.Sync(); err != nil {
		return storeError("sync segment "+l.name, err)
	}
	if err := l.s.config.FS.SyncDir(path.Join(l.s.config.Folder, largeFolder)); err != nil {
		return storeError("sync folder of segment "+l.name, err)
	}
	l.kept = true
	e.loc.Segment, e.loc.Offset = l.name, start
	return nil
}
