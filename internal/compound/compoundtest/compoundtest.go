// Package compoundtest makes OLE2 compound files for tests.
package compoundtest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unicode/utf16"
)

// Entry is a stream, or with kind 1 a storage.
type Entry struct {
	Name    string
	Kind    byte // 2 when it is 0
	Content []byte
}

const (
	sector = 512
	small  = 64
	cutoff = 4096
	ends   = 1<<32 - 2
)

// File makes a compound file of sectors of 512 octets, up to 54 KiB for want of a second table of
// sectors: the table in sector 0, then the directory, the table of small sectors, these, and the
// streams of 4 KiB and more.
func File(entries ...Entry) []byte {
	var mini, minis []byte // small sectors, and their table
	var large [][]byte
	type place struct{ start, size int }
	places := make([]place, len(entries))
	for i, e := range entries {
		places[i] = place{-1, len(e.Content)}
		if len(e.Content) >= cutoff {
			large = append(large, fill(e.Content, sector))
			places[i].start = -len(large) - 1 // set below
			continue
		}
		places[i].start = len(mini) / small
		mini = append(mini, fill(e.Content, small)...)
		minis = append(minis, chain(places[i].start, len(mini)/small)...)
	}
	mini, minis = fill(mini, sector), fill(minis, sector)
	directory := (len(entries) + 1 + 3) / 4
	at := 1 + directory
	tableOf, miniAt := at, at+len(minis)/sector
	at = miniAt + len(mini)/sector
	fat := append(number(1<<32-3), chain(1, tableOf)...)
	fat = append(append(fat, chain(tableOf, miniAt)...), chain(miniAt, at)...)
	var tail []byte
	for i, p := range places {
		if p.start < -1 {
			b := large[-p.start-2]
			places[i].start = at
			fat = append(fat, chain(at, at+len(b)/sector)...)
			at += len(b) / sector
			tail = append(tail, b...)
		}
	}
	var dir []byte
	dir = append(dir, slot("Root Entry", 5, miniAt, len(mini))...)
	for i, e := range entries {
		if e.Kind == 0 {
			e.Kind = 2
		}
		dir = append(dir, slot(e.Name, e.Kind, places[i].start, places[i].size)...)
	}
	head := bytes.Repeat([]byte{0xff}, sector)
	copy(head, make([]byte, 76))
	copy(head, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	head[30], head[32] = 9, 6
	for at, v := range map[int]uint32{44: 1, 48: 1, 56: cutoff, 60: uint32(tableOf), 68: ends, 76: 0} {
		binary.LittleEndian.PutUint32(head[at:], v)
	}
	fat = append(fat, bytes.Repeat([]byte{0xff}, max(0, sector-len(fat)))...)
	return slices.Concat(head, fat[:sector], fill(dir, sector), minis, mini, tail)
}

// fill pads with zeros to a whole number of units.
func fill(b []byte, unit int) []byte {
	return append(slices.Clone(b), make([]byte, (unit-len(b)%unit)%unit)...)
}

func number(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// chain is the part of a table for the sectors from first up to to.
func chain(first, to int) (b []byte) {
	for i := first; i < to-1; i++ {
		b = append(b, number(uint32(i+1))...)
	}
	if first < to {
		b = append(b, number(ends)...)
	}
	return b
}

// slot is an entry of the directory.
func slot(name string, kind byte, start, size int) []byte {
	b := make([]byte, 128)
	n := 0
	for _, u := range utf16.Encode([]rune(name)) {
		binary.LittleEndian.PutUint16(b[n:], u)
		n += 2
	}
	binary.LittleEndian.PutUint16(b[64:], uint16(n+2))
	b[66] = kind
	binary.LittleEndian.PutUint32(b[116:], uint32(start))
	binary.LittleEndian.PutUint32(b[120:], uint32(size))
	return b
}
