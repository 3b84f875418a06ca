package milter

import (
	"bufio"
	"io"
)

// ReadPacket is readPacket, for fuzzing.
func ReadPacket(r io.Reader, limit int) (byte, []byte, error) {
	return readPacket(bufio.NewReader(r), limit)
}

// ParseReply is what hostile reply texts run into.
var ParseReply = parseReply
