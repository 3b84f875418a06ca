package milter

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Commands: what we say.
const (
	cmdAbort   = 'A'
	cmdBody    = 'B'
	cmdConnect = 'C'
	cmdMacro   = 'D'
	cmdEnd     = 'E'
	cmdHello   = 'H'
	cmdQuitNC  = 'K'
	cmdHeader  = 'L'
	cmdMail    = 'M'
	cmdEOH     = 'N'
	cmdOptions = 'O'
	cmdQuit    = 'Q'
	cmdRcpt    = 'R'
	cmdData    = 'T'
)

// Replies: what a milter says.
const (
	rplAddRcpt    = '+'
	rplDelRcpt    = '-'
	rplAddRcptPar = '2'
	rplShutdown   = '4'
	rplAccept     = 'a'
	rplReplBody   = 'b'
	rplContinue   = 'c'
	rplDiscard    = 'd'
	rplChgFrom    = 'e'
	rplAddHeader  = 'h'
	rplInsHeader  = 'i'
	rplChgHeader  = 'm'
	rplProgress   = 'p'
	rplQuarantine = 'q'
	rplReject     = 'r'
	rplSkip       = 's'
	rplTempFail   = 't'
	rplReplyCode  = 'y'
)

// action is a set of changes, as offered and asked for when a connection begins.
type action uint32

const (
	actAddHeaders action = 1 << iota
	actChangeBody
	actAddRcpt
	actDelRcpt
	actChangeHeaders
	actQuarantine
	actChangeFrom
	actAddRcptPar
	actSetMacros
)

// step is a set of properties of the dialogue: stages the milter does not want, and stages it
// does not reply to.
type step uint32

const (
	noConnect step = 1 << iota
	noHello
	noMail
	noRcpt
	noBody
	noHeaders
	noEOH
	quietHeader
	noUnknown
	noData
	canSkip
	wantRejected
	quietConnect
	quietHello
	quietMail
	quietRcpt
	quietData
	quietUnknown
	quietEOH
	quietBody
	leadSpace

	chunk256K step = 1 << 28
	chunk1M   step = 1 << 29
)

// errPacket is what a malformed packet is.
var errPacket = errors.New("malformed packet")

// readPacket reads one packet of at most limit octets: a command and its data. The memory it
// takes is what has come, not what was announced.
func readPacket(r *bufio.Reader, limit int) (cmd byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n == 0 {
		return 0, nil, fmt.Errorf("%w: no command in it", errPacket)
	}
	if uint64(n) > uint64(limit) {
		return 0, nil, fmt.Errorf("%w: %d octets announced, %d are the limit", errPacket, n, limit)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return 0, nil, noEOF(err)
	}
	for left := int(n) - 1; left > 0; {
		part := min(left, 16<<10)
		at := len(data)
		data = append(data, make([]byte, part)...)
		if _, err := io.ReadFull(r, data[at:]); err != nil {
			return 0, nil, noEOF(err)
		}
		left -= part
	}
	return head[4], data, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// writePacket writes one packet; errors stay in w until it is flushed.
func writePacket(w *bufio.Writer, cmd byte, data []byte) {
	var head [5]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(data)+1)) // data is a chunk or a field
	head[4] = cmd
	_, _ = w.Write(head[:])
	_, _ = w.Write(data)
}

// appendString appends s and its NUL. A NUL in s would end it early and begin another
// argument; it becomes a question mark.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if s[i] == 0 {
			b = append(b, '?')
		} else {
			b = append(b, s[i])
		}
	}
	return append(b, 0)
}

// cutString reads a string that ends with NUL.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:], true
		}
	}
	return "", b, false
}

// stringsOf reads count strings, which must be all of data; fewer may be there when the rest
// is optional (least).
func stringsOf(data []byte, least, most int) ([]string, error) {
	var out []string
	for len(data) > 0 && len(out) < most {
		s, rest, ok := cutString(data)
		if !ok {
			return nil, fmt.Errorf("%w: a string does not end", errPacket)
		}
		out, data = append(out, s), rest
	}
	if len(out) < least || len(data) > 0 {
		return nil, fmt.Errorf("%w: %d strings and %d octets more", errPacket, len(out), len(data))
	}
	return out, nil
}
