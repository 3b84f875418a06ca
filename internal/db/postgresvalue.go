package db

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// plainArgs turns parameters into the few types both engines know.
func plainArgs(args []any) ([]any, error) {
	if len(args) == 0 {
		return nil, nil
	}
	plain := make([]any, len(args))
	for i, a := range args {
		v, err := toValue(a, i+1)
		if err != nil {
			return nil, err
		}
		switch v.kind {
		case kindInt:
			plain[i] = v.i
		case kindText:
			plain[i] = string(v.b)
		case kindBlob:
			plain[i] = v.b
		}
	}
	return plain, nil
}

// decode reads a column as the server sent it.
func decode(f pgconn.FieldDescription, raw []byte) (value, error) {
	if raw == nil {
		return value{}, nil
	}
	if f.Format == pgtype.TextFormatCode {
		return decodeText(f.DataTypeOID, raw)
	}
	switch f.DataTypeOID {
	case pgtype.Int8OID:
		if len(raw) == 8 {
			return value{kind: kindInt, i: int64(binary.BigEndian.Uint64(raw))}, nil
		}
	case pgtype.Int4OID:
		if len(raw) == 4 {
			return value{kind: kindInt, i: int64(int32(binary.BigEndian.Uint32(raw)))}, nil
		}
	case pgtype.Int2OID:
		if len(raw) == 2 {
			return value{kind: kindInt, i: int64(int16(binary.BigEndian.Uint16(raw)))}, nil
		}
	case pgtype.BoolOID:
		if len(raw) == 1 {
			return boolValue(raw[0] != 0), nil
		}
	case pgtype.NumericOID:
		return decodeNumeric(raw)
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID, pgtype.UnknownOID:
		return value{kind: kindText, b: raw}, nil
	case pgtype.ByteaOID:
		return value{kind: kindBlob, b: raw}, nil
	default:
		return value{kind: kindOther}, nil
	}
	return value{}, fmt.Errorf("column %s has %d octets, which its type does not", f.Name, len(raw))
}

// decodeText reads a column in the text format, which the server uses for types
// it has no better form for.
func decodeText(oid uint32, raw []byte) (value, error) {
	switch oid {
	case pgtype.Int8OID, pgtype.Int4OID, pgtype.Int2OID, pgtype.NumericOID:
		n, err := strconv.ParseInt(string(raw), 10, 64)
		return value{kind: kindInt, i: n}, err
	case pgtype.BoolOID:
		return boolValue(string(raw) == "t"), nil
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID, pgtype.UnknownOID:
		return value{kind: kindText, b: raw}, nil
	}
	return value{kind: kindOther}, nil
}

// decodeNumeric reads NUMERIC, which SUM of BIGINT gives: digits to the base of
// 10,000, the first with the weight given. It must be an integer of 64 bits.
func decodeNumeric(raw []byte) (value, error) {
	var errNumeric = errors.New("number is no integer of 64 bits")
	if len(raw) < 8 {
		return value{}, errNumeric
	}
	digits := int(binary.BigEndian.Uint16(raw))
	weight := int(int16(binary.BigEndian.Uint16(raw[2:])))
	sign := binary.BigEndian.Uint16(raw[4:])
	if len(raw) != 8+2*digits || sign != 0 && sign != 0x4000 || weight > 4 || digits > 0 && digits > weight+1 {
		return value{}, errNumeric
	}
	var n uint64
	for i := range weight + 1 {
		var digit uint64
		if i < digits {
			digit = uint64(binary.BigEndian.Uint16(raw[8+2*i:]))
		}
		if n > (math.MaxUint64-digit)/10000 {
			return value{}, errNumeric
		}
		n = n*10000 + digit
	}
	switch {
	case sign == 0 && n <= math.MaxInt64:
		return value{kind: kindInt, i: int64(n)}, nil
	case sign != 0 && n <= math.MaxInt64+1:
		return value{kind: kindInt, i: -int64(n)}, nil
	}
	return value{}, errNumeric
}

// maxPlaceholders bounds the texts that placeholders keeps.
const maxPlaceholders = 4096

// placeholders turns ? into $1, $2 …, and remembers the outcome.
type placeholders struct {
	mu   sync.RWMutex
	seen map[string]numbered
}

// numbered is a statement in PostgreSQL's form and how many parameters it has.
type numbered struct {
	query     string
	params    int
	forbidden bool // to functions: see forbidden
}

// number returns query with numbered placeholders, and their number.
func (p *placeholders) number(query string) numbered {
	p.mu.RLock()
	n, ok := p.seen[query]
	p.mu.RUnlock()
	if ok {
		return n
	}
	n = numberPlaceholders(query)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil || len(p.seen) >= maxPlaceholders {
		p.seen = make(map[string]numbered)
	}
	p.seen[strings.Clone(query)] = n
	return n
}

// numberPlaceholders leaves alone what stands in quotes and comments.
func numberPlaceholders(query string) numbered {
	var b strings.Builder
	var n numbered
	for i := 0; i < len(query); {
		end := i + 1
		switch c := query[i]; {
		case c == '?':
			n.params++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n.params))
			i = end
			continue
		case c == '\'' || c == '"':
			end = skipPast(query, i+1, string(c))
		case strings.HasPrefix(query[i:], "--"):
			end = skipPast(query, i+2, "\n")
		case strings.HasPrefix(query[i:], "/*"):
			end = skipPast(query, i+2, "*/")
		}
		b.WriteString(query[i:end])
		i = end
	}
	n.query, n.forbidden = b.String(), forbidden(query)
	return n
}

// skipPast is the place behind the next mark in s, or its end.
func skipPast(s string, from int, mark string) int {
	if i := strings.Index(s[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(s)
}
