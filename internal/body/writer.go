package body

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"poczta.example/poczta/internal/disk"
)

// storeError wraps err, met while doing what, in ErrFull or ErrFailed.
func storeError(what string, err error) error {
	kind := ErrFailed
	if disk.IsFull(err) {
		kind = ErrFull
	}
	return fmt.Errorf("%s: %w: %w", what, kind, err)
}

// How far a segment is written ahead with zeros. Records overwrite them: a sync
// that has neither length nor place of the file to write takes half the time and
// CPU of one that has. A small segment is written ahead by its own length.
const (
	maxAhead   = 1 << 20
	zeroOctets = 64 << 10 // of one write
)

// writer appends to a segment that this process created. Its segment is pinned
// from newWriter to seal or retire. Not for concurrent use.
type writer struct {
	s      *Segments
	name   string
	file   disk.File
	head   segmentHead
	end    int64  // of what is durable
	body   int64  // octets of body records
	events int64  // octets of event records
	size   int64  // of the file; behind end it holds zeros
	zeros  []byte // nil when the segment is not written ahead
}

// newWriter creates a segment; when it returns the file, its header and its name
// are durable. origin and created are those of the segment it takes over, or zero.
func (s *Segments) newWriter(flags uint32, origin string, created time.Time) (*writer, error) {
	name := s.newName(suffixShared)
	if origin == "" {
		origin, created = name, time.Now()
	}
	w := &writer{s: s, name: name, end: segmentHeader, size: segmentHeader,
		head: segmentHead{flags: flags, created: created, first: segmentHeader, origin: origin}}
	if err := s.fillSalt(&w.head.salt); err != nil {
		s.unpin(name)
		return nil, err
	}
	file, err := s.config.FS.Create(s.path(name))
	if err != nil {
		s.unpin(name)
		return nil, storeError("create segment "+name, err)
	}
	w.file = file
	if flags&flagMerged == 0 {
		w.zeros = make([]byte, zeroOctets)
	}
	if err := w.begin(); err != nil {
		_ = file.Close()                     // nothing of it counts
		_ = s.config.FS.Remove(s.path(name)) // best effort: Merge removes it otherwise
		s.unpin(name)
		return nil, storeError("begin segment "+name, err)
	}
	return w, nil
}

// fillSalt fills a salt with randomness.
func (s *Segments) fillSalt(to *salt) error {
	if _, err := io.ReadFull(s.config.Random, to[:]); err != nil {
		return fmt.Errorf("read randomness for a segment: %w", err)
	}
	return nil
}

// begin writes the header and makes the file count.
func (w *writer) begin() error {
	if _, err := w.file.WriteAt(w.head.encode(), 0); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	return w.s.config.FS.SyncDir(w.s.config.Folder)
}

// append makes whole records durable behind the end. After ErrFull from the write
// the segment is as before; after any other error it must be retired, which
// broken says.
func (w *writer) append(records []byte) (broken bool, err error) {
	if broken, err := w.put(records); err != nil {
		return broken, err
	}
	if len(records) < maxAhead { // else the next group outgrows the zeros too
		if err := w.stretch(w.end + int64(len(records))); err != nil {
			return true, storeError("write segment "+w.name, err)
		}
	}
	return w.sync(records)
}

// put writes records behind the end.
func (w *writer) put(records []byte) (broken bool, err error) {
	if _, err := w.file.WriteAt(records, w.end); err != nil {
		err = storeError("write segment "+w.name, err)
		if !errors.Is(err, ErrFull) {
			return true, err
		}
		// What was written must not be taken for records by a later scan.
		return w.cut(w.end) != nil, err
	}
	w.size = max(w.size, w.end+int64(len(records)))
	return false, nil
}

// sync makes the records that put wrote durable.
func (w *writer) sync(records []byte) (broken bool, err error) {
	if err := w.file.Sync(); err != nil {
		return true, storeError("sync segment "+w.name, err)
	}
	w.end += int64(len(records))
	return false, nil
}

// stretch writes zeros ahead of the records, which end at end, unless some are left.
// They take nothing of the reserve, and a disk too full for them may take the records
// nevertheless.
func (w *writer) stretch(end int64) error {
	if w.zeros == nil || w.size > end {
		return nil
	}
	to := min(end+min(end, maxAhead), max(end, w.s.config.SegmentOctets))
	if free, err := w.s.config.FS.Free(); err == nil && free-(to-end) < w.s.config.Reserve {
		return nil
	}
	for at := end; at < to; {
		n, err := w.file.WriteAt(w.zeros[:min(to-at, zeroOctets)], at)
		if err != nil && disk.IsFull(err) {
			return w.cut(end)
		}
		if err != nil {
			return err
		}
		at += int64(n)
		w.size = at
	}
	return nil
}

// cut makes the file end there.
func (w *writer) cut(end int64) error {
	w.size = end
	return w.file.Truncate(end)
}

// retire gives a broken segment up: it is never written or synced again. What is
// durable in it stays readable.
func (w *writer) retire(cause error) {
	_ = w.file.Close() // its fate is decided by what is durable
	w.s.config.Logger.Error("segment failed and is not written any more", "segment", w.name, "error", cause)
	if w.s.config.Hooks.Failed != nil {
		w.s.config.Hooks.Failed(w.name, cause)
	}
	w.s.unpin(w.name)
}

// seal ends the segment with a record that says it is whole, and closes it.
// sources are the segments whose content it took over. The writer is gone after it.
func (w *writer) seal(sources []string) error {
	if err := w.putSeal(w.sealRecord(sources)); err != nil {
		w.retire(err)
		return err
	}
	if err := w.file.Close(); err != nil {
		err = storeError("close segment "+w.name, err)
		w.retire(err)
		return err
	}
	w.s.mu.Lock()
	w.s.infos[w.name] = segmentInfo{head: w.head, sealed: true, end: w.end, body: w.body, events: w.events, sources: sources}
	w.s.mu.Unlock()
	w.s.unpin(w.name)
	return nil
}

// putSeal makes the seal durable as the end of the file, where it is looked for. A
// power cut may leave zeros behind it: then the segment counts as unsealed.
func (w *writer) putSeal(record []byte) error {
	if _, err := w.put(record); err != nil {
		return err
	}
	if end := w.end + int64(len(record)); w.size > end {
		if err := w.cut(end); err != nil {
			return storeError("cut segment "+w.name, err)
		}
	}
	_, err := w.sync(record)
	return err
}

// sealRecord encodes the seal: its octets are its own offset, so that it is found
// from the end of the file.
func (w *writer) sealRecord(sources []string) []byte {
	var meta []byte
	totals := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(w.body)), uint64(w.events))
	meta = appendField(meta, fieldTotals, totals)
	for _, name := range sources {
		meta = appendField(meta, fieldSource, name)
	}
	octets := binary.BigEndian.AppendUint64(nil, uint64(w.end))
	h := recordHead{kind: kindSeal, offset: w.end, synced: w.end}
	return appendRecord(nil, &h, &w.head.salt, meta, octets)
}

// appendRecord appends a whole record of metadata and octets; it fills in the
// lengths of h.
func appendRecord(b []byte, h *recordHead, s *salt, meta []byte, octets ...[]byte) []byte {
	h.meta, h.octets = int64(len(meta)), 0
	sum := updateCRC(0, meta)
	for _, part := range octets {
		h.octets += int64(len(part))
		sum = updateCRC(sum, part)
	}
	h.stored = recordHeaderLen + h.meta + h.octets + recordTrailer
	start := len(b)
	b = append(b, make([]byte, recordHeaderLen)...)
	h.put(b[start:], s)
	sum = recordSum(sum, b[start:])
	b = append(b, meta...)
	for _, part := range octets {
		b = append(b, part...)
	}
	return binary.BigEndian.AppendUint32(b, sum)
}
