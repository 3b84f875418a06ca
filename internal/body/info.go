package body

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"poczta.example/poczta/internal/disk"
)

// segmentInfo is what is known of a segment that nobody writes any more.
type segmentInfo struct {
	head    segmentHead
	sealed  bool
	damaged bool
	end     int64    // behind the last good record
	body    int64    // octets of body records
	events  int64    // octets of event records
	sources []string // segments that it took over
}

// unfinished reports whether the segment is a merge that did not come to its end: its
// events are those of a source that still exists.
func (i *segmentInfo) unfinished() bool { return i.head.flags&flagMerged != 0 && !i.sealed }

// info returns what is known of a shared segment that nobody writes: from its seal,
// from the note beside it, or else from a scan. The error is errUnborn when nothing
// was ever stored in it, and wraps ErrDamaged when its header is.
func (s *Segments) info(ctx context.Context, name string) (segmentInfo, error) {
	s.mu.Lock()
	info, ok := s.infos[name]
	s.mu.Unlock()
	if ok {
		return info, nil
	}
	f, err := s.config.FS.Open(s.path(name))
	if err != nil {
		return info, fmt.Errorf("open segment %s: %w", name, err)
	}
	defer f.Close()
	if info, err = s.readInfo(ctx, name, f); err != nil {
		return info, fmt.Errorf("segment %s: %w", name, err)
	}
	s.mu.Lock()
	s.infos[name] = info
	s.mu.Unlock()
	return info, nil
}

// readInfo finds out about the segment open as f.
func (s *Segments) readInfo(ctx context.Context, name string, f disk.File) (segmentInfo, error) {
	size, err := f.Size()
	if err != nil {
		return segmentInfo{}, err
	}
	head, err := readSegmentHead(f)
	if err != nil {
		return segmentInfo{}, err
	}
	if info, ok := readSeal(f, head, size); ok {
		return info, nil
	}
	if info, ok := s.readNote(name); ok {
		info.head = head
		return info, nil
	}
	info := segmentInfo{head: head, end: head.first}
	err = newScanner(f, size, head.salt).run(ctx, head.first, func(p *piece) error {
		s.count(&info, name, p)
		return nil
	})
	return info, err
}

// count adds a piece to what is known of its segment.
func (s *Segments) count(info *segmentInfo, name string, p *piece) {
	switch {
	case p.damage != nil && !p.torn:
		info.damaged = true
		s.config.Logger.Error("segment is damaged; store check tells which bodies", "segment", name, "offset", p.offset, "octets", p.stored, "error", p.damage)
		return
	case p.zeros: // written ahead
		return
	case p.damage != nil:
		s.config.Logger.Info("unfinished end of segment is ignored", "segment", name, "offset", p.offset, "octets", p.stored)
		return
	case p.kind == kindBody:
		info.body += p.stored
	case p.kind == kindEvents:
		info.events += p.stored
	}
	info.end = p.offset + p.stored
}

// readSegmentHead reads the header of a segment file. Without anything behind it, a
// bad header is that of a segment whose creation was interrupted.
func readSegmentHead(f disk.File) (segmentHead, error) {
	size, err := f.Size()
	if err != nil {
		return segmentHead{}, err
	}
	if size < segmentHeader {
		return segmentHead{}, errUnborn
	}
	b := make([]byte, segmentHeader)
	if err := readFull(f, b, 0); err != nil {
		return segmentHead{}, err
	}
	h, err := parseSegmentHead(b)
	if err != nil && size == segmentHeader {
		return h, errUnborn
	}
	return h, err
}

// readSeal looks for the seal at the end of the segment.
func readSeal(f disk.File, head segmentHead, size int64) (segmentInfo, bool) {
	var tail [8 + recordTrailer]byte
	if size < segmentHeader+recordHeaderLen+int64(len(tail)) || readFull(f, tail[:], size-int64(len(tail))) != nil {
		return segmentInfo{}, false
	}
	at := int64(binary.BigEndian.Uint64(tail[:]))
	if at < head.first || at > size-recordHeaderLen-recordTrailer || size-at > maxEventRecord {
		return segmentInfo{}, false
	}
	p, err := newScanner(f, size, head.salt).record(at)
	if err != nil || p.kind != kindSeal || at+p.stored != size {
		return segmentInfo{}, false
	}
	info := segmentInfo{head: head, sealed: true, end: at}
	err = eachField(p.meta, func(kind uint16, r *reader) bool {
		switch kind {
		case fieldTotals:
			info.body, info.events = int64(r.uvarint()), int64(r.uvarint())
		case fieldSource:
			info.sources = append(info.sources, string(r.rest()))
		default:
			return false
		}
		return true
	})
	return info, err == nil
}

// recover makes sure that a segment of an earlier process is known, and notes the
// end of one without a seal beside it, so that the next start needs no scan.
func (s *Segments) recover(ctx context.Context, name string) error {
	info, err := s.info(ctx, name)
	if errors.Is(err, errUnborn) {
		return nil // Merge removes it
	}
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) {
		s.config.Logger.Error("segment can't be read; store check tells which bodies", "segment", name, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	if info.sealed {
		return nil
	}
	if _, ok := s.readNote(name); ok {
		return nil
	}
	if err := s.writeNote(name, info); err != nil {
		// The note only saves time: a full disk must not keep the office shut.
		s.config.Logger.Warn("end of segment could not be noted", "segment", name, "error", err)
	}
	return nil
}

const noteFormat = "poczta segment end 1: %d %d %d %t"

// writeNote writes the note of an unsealed segment's end.
func (s *Segments) writeNote(name string, info segmentInfo) error {
	text := fmt.Sprintf(noteFormat, info.end, info.body, info.events, info.damaged)
	text += fmt.Sprintf(" %08x\n", crc32.Checksum([]byte(text), castagnoli))
	return disk.WriteFile(s.config.FS, s.path(name)+suffixNote, []byte(text))
}

// readNote reads the note of an unsealed segment's end, if there is a good one.
func (s *Segments) readNote(name string) (info segmentInfo, ok bool) {
	b, err := disk.ReadFile(s.config.FS, s.path(name)+suffixNote, 4096)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.config.Logger.Warn("note of a segment's end can't be read", "segment", name, "error", err)
		}
		return info, false
	}
	var sum uint32
	if _, err := fmt.Sscanf(string(b), noteFormat+" %x\n", &info.end, &info.body, &info.events, &info.damaged, &sum); err != nil {
		return segmentInfo{}, false
	}
	text := fmt.Sprintf(noteFormat, info.end, info.body, info.events, info.damaged)
	return info, crc32.Checksum([]byte(text), castagnoli) == sum
}
