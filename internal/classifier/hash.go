package classifier

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/message"
)

// Bounds of HashOf, octets.
const (
	hashHeader = 1 << 20 // of the header section that counts, as intake takes it
	hashBody   = 1 << 20 // of the body that are read
	hashText   = 1 << 19 // of these that count, blanks left out
)

// addedFields are written by servers and programs on a message's way into a mailbox: its copies
// differ in them, and in the end in nothing else.
var addedFields = map[string]bool{
	"return-path": true, "delivered-to": true, "x-original-to": true, "received": true, "authentication-results": true, // on delivery
	"status": true, "x-status": true, "x-uid": true, "x-uidl": true, "x-keywords": true, "x-mozilla-status": true, "x-mozilla-status2": true, // in mbox files
}

// addedPrefix begins the names of our own fields.
const addedPrefix = "x-poczta-"

// HashOf names a message for Sample.Hash: every copy of one letter has the same, whichever way it
// came here. Fields that are added on the way, and blanks and line ends, do not count; of the
// body the first 512 KiB do. It reads 2 MiB at most. Errors are those of r.
func HashOf(r io.Reader) ([32]byte, error) {
	start, err := io.ReadAll(io.LimitReader(r, hashHeader+hashBody))
	if err != nil {
		return [32]byte{}, fmt.Errorf("read message: %w", err)
	}
	start = bytes.TrimLeft(start, "\r\n")
	header, body, _ := message.SplitHeader(start)
	h := sha256.New()
	_, _ = h.Write(withoutBlanks(message.Strip(header, isAdded), len(header)))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(withoutBlanks(body, hashText))
	return [32]byte(h.Sum(nil)), nil
}

// isAdded reports a field that is added on the way.
func isAdded(f message.Field) bool {
	name := strings.ToLower(f.Name())
	return addedFields[name] || strings.HasPrefix(name, addedPrefix) || message.IsMboxLine(f)
}

// withoutBlanks is the first octets of a text without what programs change in passing.
func withoutBlanks(text []byte, most int) []byte {
	kept := make([]byte, 0, min(len(text), most))
	for _, c := range text {
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			continue
		}
		if len(kept) == most {
			break
		}
		kept = append(kept, c)
	}
	return kept
}
