// Package control lets a command line run its commands inside the running
// server, over a UNIX socket in the data folder: arguments go in, the standard
// streams are carried both ways as they are produced, an exit code comes back.
//
// Protocol: both sides send frames of one octet of kind, four octets of length
// (big-endian) and at most 64 KiB of payload. The client begins with a request.
// Standard input is pulled: the server asks with a want frame, the client answers
// with one data frame, of length zero at the end; so neither side blocks on the
// other while it could be told to stop.
package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the protocol's version; both sides must have the same.
const Version = 1

// maxPayload bounds a frame's payload in octets.
const maxPayload = 64 << 10

type kind byte

const (
	kindRequest kind = 'R' // client: JSON of request
	kindWant    kind = 'W' // server: wants standard input
	kindIn      kind = 'I' // client: standard input, empty at its end
	kindOut     kind = 'O' // server: standard output
	kindErr     kind = 'E' // server: standard error
	kindExit    kind = 'X' // server: exit code, one octet
	kindRefused kind = 'N' // server: a sentence, instead of everything else
)

// request opens a session.
type request struct {
	Protocol int      `json:"protocol"`
	Program  string   `json:"program"` // version of the client's program
	Args     []string `json:"args"`
}

var errFrame = errors.New("malformed frame")

func writeFrame(w io.Writer, k kind, payload []byte) error {
	buf := make([]byte, 5+len(payload))
	buf[0] = byte(k)
	binary.BigEndian.PutUint32(buf[1:], uint32(len(payload)))
	copy(buf[5:], payload)
	_, err := w.Write(buf)
	return err
}

// readFrame reads a frame into buf, which has room for maxPayload octets.
func readFrame(r io.Reader, buf []byte) (kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxPayload {
		return 0, nil, fmt.Errorf("%w: %d octets are announced, the most is %d", errFrame, n, maxPayload)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		return 0, nil, fmt.Errorf("%w: it ends early: %w", errFrame, io.ErrUnexpectedEOF)
	}
	return kind(head[0]), buf[:n], nil
}
