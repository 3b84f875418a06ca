package milter

import (
	"bufio"
	"io"
)

// ReadPacket is readPacket, for a fake milter and for fuzzing.
func ReadPacket(r io.Reader, limit int) (byte, []byte, error) {
	return readPacket(bufio.NewReader(r), limit)
}

// ParseReply and FieldValue are what hostile text runs into.
var (
	ParseReply = parseReply
	FieldValue = fieldValue
)

// Repair runs pieces through a repairer.
func Repair(w io.Writer, pieces ...string) (int64, error) {
	p := repairer{w: w}
	for _, s := range pieces {
		if err := p.write([]byte(s)); err != nil {
			return p.written, err
		}
	}
	err := p.close()
	return p.written, err
}
