package body

import (
	"encoding/binary"
	"fmt"
	"time"
)

// appendEvent appends an event as it stands in the octets of an event record: its
// length, then its fields. Fields added later follow the ones here.
func appendEvent(b []byte, e *Event) []byte {
	var scratch [256]byte
	f := append(scratch[:0], byte(e.Kind))
	f = append(f, e.ID[:]...)
	f = binary.AppendVarint(f, e.Account)
	f = binary.AppendUvarint(f, uint64(e.UID))
	f = binary.AppendUvarint(f, uint64(e.Flags))
	f = binary.AppendVarint(f, e.Time.UnixMicro())
	f = appendText(f, e.Login)
	f = appendText(f, e.Mailbox)
	f = appendText(f, e.UniqueID)
	return appendText(b, f)
}

// parseEvents reads the octets of an event record.
func parseEvents(b []byte) ([]Event, error) {
	var events []Event
	r := reader{b: b}
	for len(r.b) > 0 {
		f := reader{b: r.take(r.uvarint())}
		var e Event
		if kind := f.take(1); kind != nil {
			e.Kind = EventKind(kind[0])
		}
		f.copyTo(e.ID[:])
		e.Account = f.varint()
		e.UID = uint32(f.uvarint())
		e.Flags = uint32(f.uvarint())
		e.Time = time.UnixMicro(f.varint())
		e.Login, e.Mailbox, e.UniqueID = f.text(), f.text(), f.text()
		if r.bad || f.bad {
			return events, fmt.Errorf("journal event is malformed: %w", ErrDamaged)
		}
		events = append(events, e)
	}
	return events, nil
}
