package hook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/verdict"
)

// Version is the number of the request's form, its field "version".
const Version = 1

// Message is what a program is asked about.
type Message struct {
	Origin   envelope.Origin
	Envelope envelope.Envelope
	QueueID  string
	Outgoing bool           // sent by one of our own people
	Header   []byte         // the header section; for SendHeader
	Content  io.ReaderAt    // all of the message; for SendMessage
	Size     int64          // of the message, octets
	Evidence []verdict.Item // what is known so far
	Verified []string       // domains that are proven to have sent it
}

// facts is the JSON of a request; docs/hook.md describes it.
type facts struct {
	Version     int        `json:"version"`
	QueueID     string     `json:"queue_id"`
	Time        time.Time  `json:"time"`
	Outgoing    bool       `json:"outgoing"`
	Peer        peer       `json:"peer"`
	Login       string     `json:"login,omitempty"`
	ReversePath string     `json:"reverse_path"`
	Recipients  []string   `json:"recipients"`
	Size        int64      `json:"size"`
	Verified    []string   `json:"verified_domains"`
	Evidence    []evidence `json:"evidence"`
	Header      string     `json:"header,omitempty"`
}

type peer struct {
	Address  string `json:"address,omitempty"`
	Port     uint16 `json:"port,omitempty"`
	Name     string `json:"name,omitempty"`
	Helo     string `json:"helo,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	TLS      string `json:"tls,omitempty"`
}

type evidence struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

func (c *Client) facts(m Message) ([]byte, error) {
	o := m.Origin
	f := facts{
		Version: Version, QueueID: m.QueueID, Time: o.Time.UTC(), Outgoing: m.Outgoing, Login: o.Login, Size: m.Size,
		Peer:        peer{Name: o.PeerName, Helo: o.Helo, Protocol: o.Protocol, TLS: o.TLS},
		ReversePath: strings.Trim(m.Envelope.ReversePath.String(), "<>"),
		Recipients:  []string{}, Verified: append([]string{}, m.Verified...), Evidence: []evidence{},
	}
	if o.Peer.IsValid() {
		f.Peer.Address, f.Peer.Port = o.Peer.Addr().Unmap().String(), o.Peer.Port()
	}
	for _, r := range m.Envelope.Recipients {
		f.Recipients = append(f.Recipients, strings.Trim(r.ForwardPath.String(), "<>"))
	}
	for _, it := range m.Evidence {
		f.Evidence = append(f.Evidence, evidence{string(it.Name), it.Detail})
	}
	if c.cfg.Send == SendHeader {
		f.Header = strings.ToValidUTF8(string(m.Header), "\uFFFD")
	}
	return json.Marshal(f)
}

// body is a request's body that can be read more than once: to sign it, to send it, and to send
// it again.
type body struct {
	kind       string // media type
	front, end []byte
	content    io.ReaderAt
	length     int64 // of content
	size       int64 // of all
}

// open returns a reader of the whole body.
func (b *body) open(ctx context.Context) *source {
	parts := []io.Reader{bytes.NewReader(b.front)}
	if b.content != nil {
		parts = append(parts, io.NewSectionReader(b.content, 0, b.length), bytes.NewReader(b.end))
	}
	return &source{r: &exact{r: io.MultiReader(parts...), left: b.size}, ctx: ctx}
}

// exact makes an early end an error, so that a message that is cut off is not sent as a whole one.
type exact struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (e *exact) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if e.left -= int64(n); err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *Client) bodyOf(m Message) (*body, error) {
	front, err := c.facts(m)
	if err != nil {
		return nil, err
	}
	if c.cfg.Send != SendMessage || m.Content == nil {
		return &body{kind: "application/json", front: front, size: int64(len(front))}, nil
	}
	if m.Size > c.cfg.MaxSize {
		return nil, fmt.Errorf("%w: %d octets, %d are the limit", ErrTooLarge, m.Size, c.cfg.MaxSize)
	}
	boundary := rand.Text() // 128 bits: no message holds it
	b := &body{kind: "multipart/form-data; boundary=" + boundary, content: m.Content, length: m.Size}
	b.front = fmt.Appendf(nil, "--%s\r\nContent-Disposition: form-data; name=\"facts\"\r\nContent-Type: application/json\r\n\r\n%s\r\n"+
		"--%s\r\nContent-Disposition: form-data; name=\"message\"; filename=\"message.eml\"\r\nContent-Type: message/rfc822\r\n\r\n", boundary, front, boundary)
	b.end = fmt.Appendf(nil, "\r\n--%s--\r\n", boundary)
	b.size = int64(len(b.front)) + b.length + int64(len(b.end))
	return b, nil
}
