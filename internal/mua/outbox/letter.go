package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"poczta.example/poczta/internal/message"
)

// ErrHeader refuses a header section that no server would take.
var ErrHeader = errors.New("the header section is larger than 1 MiB")

// letterText is a letter on its way in: its header section, and what follows.
type letterText struct {
	head []byte    // fields, each with CRLF
	rest io.Reader // the empty line and the text
}

// open reads the header section of a letter with any line ends.
func open(r io.Reader) (*letterText, error) {
	in := message.NewReader(r)
	buf := make([]byte, 0, 16<<10)
	for was := 0; ; {
		if n, complete := message.HeaderLen(buf, was); complete && n <= message.MaxHeaderOctets {
			break
		}
		was = len(buf)
		if len(buf) > message.MaxHeaderOctets {
			return nil, ErrHeader
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 4*cap(buf)), buf...)
		}
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read letter: %w", err)
		}
	}
	head, rest, _ := message.SplitHeader(buf)
	for f := range message.Fields(head) {
		if f.Malformed() && !message.IsMboxLine(f) { // the text begins here, as sendmail has it
			head, rest = buf[:f.Offset], buf[f.Offset:]
			break
		}
	}
	if !bytes.HasPrefix(rest, []byte("\r\n")) { // no header section, or nothing behind it
		rest = append([]byte("\r\n"), rest...)
	}
	return &letterText{head: slices.Clip(head), rest: io.MultiReader(bytes.NewReader(rest), in)}, nil
}

// get is the value of a field, "" when there is none.
func (t *letterText) get(name string) string {
	v, _ := message.Get(t.head, name)
	return v
}

// strip takes fields out.
func (t *letterText) strip(drop func(message.Field) bool) { t.head = message.Strip(t.head, drop) }

// add puts a field behind the others.
func (t *letterText) add(name, value string) { t.head = message.AppendField(t.head, name, value) }

// keysOf are the addresses in fields of a header section, as keys; fields that can not be read are passed over.
func keysOf(head []byte, names ...string) map[string]bool {
	keys := map[string]bool{}
	for f := range message.Fields(head) {
		for _, name := range names {
			if f.Malformed() || !f.Is(name) {
				continue
			}
			list, err := message.ParseAddressList(f.Value())
			if err != nil {
				continue
			}
			for _, m := range list {
				keys[m.Address.Key()] = true
			}
		}
	}
	return keys
}

// eightBit passes octets on and notes those above 127.
type eightBit struct {
	r    io.Reader
	seen bool
}

func (e *eightBit) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	for _, c := range p[:n] {
		if c >= 0x80 {
			e.seen = true
			break
		}
	}
	return n, err
}

// lower writes names and subjects beyond ASCII as encoded-words, so that any server takes the
// letter, unless an address itself needs SMTPUTF8 (RFC 6532).
func (t *letterText) lower() {
	if !message.NeedsUTF8(t.head) {
		return
	}
	for f := range message.Fields(t.head) {
		switch strings.ToLower(f.Name()) {
		case "from", "sender", "reply-to", "to", "cc":
			list, err := message.ParseAddressList(f.Value())
			if err != nil || slices.ContainsFunc(list, func(m message.Mailbox) bool { return !m.Address.IsASCII() }) {
				return
			}
		}
	}
	t.head = message.Downgrade(t.head)
}
