package holdings

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/db"
)

// Tags of values in a row.
const (
	tagNull = 0
	tagInt  = 1
	tagText = 2
	tagBlob = 3
)

// appendKey adds a value of a primary key so that the order of octets is that of the
// values on both engines.
func appendKey(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(b, uint64(v)^(1<<63)), nil
	case string:
		return appendEscaped(b, v), nil
	case []byte:
		return appendEscaped(b, string(v)), nil
	}
	return nil, fmt.Errorf("a primary key holds a %T", v)
}

// appendEscaped writes 0 as 0 255, and 0 1 behind all, so that no value is the
// beginning of another.
func appendEscaped(b []byte, v string) []byte {
	for i := range len(v) {
		if b = append(b, v[i]); v[i] == 0 {
			b = append(b, 0xff)
		}
	}
	return append(b, 0, 1)
}

// intKey is appendKey for numbers.
func intKey(values ...int64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, uint64(v)^(1<<63))
	}
	return b
}

// keyAfter is the first key behind all that begin with prefix; nil when there is none.
func keyAfter(prefix []byte) []byte {
	b := append([]byte(nil), prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}

// appendRow writes the values of a row.
func appendRow(b []byte, values []any) ([]byte, error) {
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			b = append(b, tagNull)
		case int64:
			b = binary.AppendVarint(append(b, tagInt), v)
		case string:
			b = append(binary.AppendUvarint(append(b, tagText), uint64(len(v))), v...)
		case []byte:
			b = append(binary.AppendUvarint(append(b, tagBlob), uint64(len(v))), v...)
		default:
			return nil, fmt.Errorf("a row holds a %T", v)
		}
	}
	return b, nil
}

var errRow = fmt.Errorf("row of a backup: %w", backup.ErrDamaged)

// parseRow reads what appendRow wrote. Octets are not copied.
func parseRow(b []byte) (values []any, err error) {
	for len(b) > 0 {
		tag := b[0]
		b = b[1:]
		switch tag {
		case tagNull:
			values = append(values, nil)
		case tagInt:
			v, n := binary.Varint(b)
			if n <= 0 {
				return nil, errRow
			}
			values, b = append(values, v), b[n:]
		case tagText, tagBlob:
			n, skip := binary.Uvarint(b)
			if skip <= 0 || n > uint64(len(b)-skip) {
				return nil, errRow
			}
			octets := b[skip : skip+int(n) : skip+int(n)]
			if b = b[skip+int(n):]; tag == tagText {
				values = append(values, string(octets))
			} else {
				values = append(values, octets)
			}
		default:
			return nil, errRow
		}
	}
	return values, nil
}

// row is a row whose values are found by column.
type row struct {
	at     map[string]int
	values []any
	err    error
}

// columns maps names to places.
func columns(t db.Table) map[string]int {
	at := make(map[string]int, len(t.Columns))
	for i, c := range t.Columns {
		at[c.Name] = i
	}
	return at
}

func newRow(at map[string]int, octets []byte) (*row, error) {
	values, err := parseRow(octets)
	if err == nil && len(values) != len(at) {
		err = errRow
	}
	return &row{at: at, values: values}, err
}

func (r *row) get(name string) any {
	i, ok := r.at[name]
	if !ok {
		r.err = errors.Join(r.err, fmt.Errorf("a row has no column %s", name))
		return nil
	}
	return r.values[i]
}

// int, text and blob return a value of that kind; r.err tells of others.
func (r *row) int(name string) int64 {
	v, ok := r.get(name).(int64)
	r.kind(name, ok)
	return v
}

func (r *row) text(name string) string {
	v, ok := r.get(name).(string)
	r.kind(name, ok)
	return v
}

func (r *row) blob(name string) []byte {
	v, ok := r.get(name).([]byte)
	r.kind(name, ok)
	return v
}

// uint32 is int for numbers of 32 bits.
func (r *row) uint32(name string) uint32 {
	v := r.int(name)
	r.kind(name, v >= 0 && v <= math.MaxUint32)
	return uint32(v)
}

func (r *row) kind(name string, ok bool) {
	if !ok {
		r.err = errors.Join(r.err, fmt.Errorf("column %s: %w", name, errRow))
	}
}
