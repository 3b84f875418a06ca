package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
)

// landedForm is the first octet of what the table landed holds of letters.
const landedForm = 1

// landed is a letter that lies here durably and is in no folder yet.
type landed struct {
	mailbox.Landed
	whole int64
	note  []byte
}

// packLanded puts letters into one column.
func packLanded(all []landed) []byte {
	b := make([]byte, 0, 64+320*len(all))
	b = append(b, landedForm)
	b = binary.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		l := &all[i]
		b = append(b, l.Body[:]...)
		b = append(b, l.Location.SHA256[:]...)
		dots := byte(0)
		if l.Location.Dots {
			dots = 1
		}
		b = append(b, dots)
		for _, n := range [...]int64{l.Location.Offset, l.Location.Stored, l.Location.Octets, int64(l.Flags), db.Micros(l.Received), l.whole} {
			b = binary.AppendVarint(b, n)
		}
		for _, s := range [...]string{l.Location.Segment, l.Mailbox, l.UniqueID, l.Source} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
		b = binary.AppendUvarint(b, uint64(len(l.note)))
		b = append(b, l.note...)
	}
	return b
}

// errLanded says that a row of the table landed is not as it was written.
var errLanded = errors.New("what is noted of letters that wait to be filed can't be read")

// unpackLanded undoes packLanded.
func unpackLanded(b []byte) ([]landed, error) {
	u := unpacker{b: b}
	if form := u.take(1); u.failed || form[0] != landedForm {
		return nil, errLanded
	}
	n := u.uvarint()
	if n > mailbox.MaxLand {
		return nil, fmt.Errorf("%w: %d letters in one row", errLanded, n)
	}
	all := make([]landed, n)
	for i := range all {
		l := &all[i]
		copy(l.Body[:], u.take(len(message.ID{})))
		copy(l.Location.SHA256[:], u.take(len(l.Location.SHA256)))
		dots := u.take(1)
		if u.failed {
			return nil, errLanded
		}
		l.Location.Dots = dots[0] != 0
		var flags, received int64
		for _, p := range [...]*int64{&l.Location.Offset, &l.Location.Stored, &l.Location.Octets, &flags, &received, &l.whole} {
			*p = u.varint()
		}
		l.Flags, l.Received = mailbox.Flags(flags), db.FromMicros(received)
		for _, p := range [...]*string{&l.Location.Segment, &l.Mailbox, &l.UniqueID, &l.Source} {
			*p = string(u.take(int(min(u.uvarint(), uint64(len(u.b)+1)))))
		}
		l.note = u.take(int(min(u.uvarint(), uint64(len(u.b)+1))))
	}
	if u.failed || len(u.b) > 0 {
		return nil, errLanded
	}
	return all, nil
}

// unpacker takes values off the front of b.
type unpacker struct {
	b      []byte
	failed bool
}

func (u *unpacker) take(n int) []byte {
	if n > len(u.b) {
		u.failed, u.b = true, nil
		return nil
	}
	p := u.b[:n:n]
	u.b = u.b[n:]
	return p
}

func (u *unpacker) uvarint() uint64 {
	v, n := binary.Uvarint(u.b)
	if n <= 0 {
		u.failed, u.b = true, nil
		return 0
	}
	u.b = u.b[n:]
	return v
}

func (u *unpacker) varint() int64 {
	v, n := binary.Varint(u.b)
	if n <= 0 {
		u.failed, u.b = true, nil
		return 0
	}
	u.b = u.b[n:]
	return v
}

// bodies are the letters as mailbox knows them.
func bodies(all []landed) []mailbox.Landed {
	list := make([]mailbox.Landed, len(all))
	for i := range all {
		list[i] = all[i].Landed
	}
	return list
}

// content is where a letter's octets lie.
func (l *landed) content() mailbox.Content {
	return mailbox.Content{Body: l.Body, Location: body.Location{Segment: l.Location.Segment, Offset: l.Location.Offset, Stored: l.Location.Stored,
		Octets: l.Location.Octets, Dots: l.Location.Dots}}
}
