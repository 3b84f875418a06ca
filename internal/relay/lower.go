package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/sevenbit"
)

// unfitError says why a message must not be converted.
type unfitError struct{ why string }

func (e *unfitError) Error() string { return e.why }

// lowered is a message in its form of seven bits. It is made anew each time it is
// read, so that nothing of it is held.
type lowered struct {
	s      *shift
	m      *queue.Message
	plan   *sevenbit.Plan
	fields []byte // DKIM-Signature fields of the new form
	octets int64
}

// convert looks through a message. nil without an error is one that is ASCII already; an
// *unfitError is one that must stay as it is.
func (s *shift) convert(ctx context.Context, m *queue.Message) (*lowered, error) {
	src, err := s.cfg.Bodies.Open(ctx, m.ID, 0, -1)
	if err != nil {
		return nil, err
	}
	plan, err := sevenbit.Scan(src)
	if cerr := src.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
		return nil, err
	case !plan.EightBit && !plan.HeaderEightBit:
		return nil, nil
	case !m.Ours:
		return nil, &unfitError{"the message of another sender must not be changed"}
	case plan.HeaderEightBit:
		return nil, &unfitError{"the header section is not ASCII"}
	case plan.Unfit() != nil:
		return nil, &unfitError{"the " + plan.Unfit().Error()}
	}
	low := &lowered{s: s, m: m, plan: plan}
	return low, low.sign(ctx)
}

// sign converts once to learn the size, and the signatures where there were any.
func (l *lowered) sign(ctx context.Context) error {
	header, _, err := l.s.header(ctx, l.m)
	if err != nil {
		return err
	}
	domain := authorDomain(header)
	signed, foreign := signatures(header, domain)
	if foreign != "" {
		return &unfitError{"the message is signed by " + foreign}
	}
	octets := &counter{}
	if !signed || l.s.cfg.Signer == nil {
		if err := l.write(ctx, octets); err != nil {
			return err
		}
		l.octets = octets.n
		return nil
	}
	d, err := address.ParseDomain(domain)
	if err != nil {
		return &unfitError{"the message is signed by nobody we know"}
	}
	pr, pw := io.Pipe()
	var convert sync.WaitGroup
	convert.Go(func() { pw.CloseWithError(l.write(ctx, io.MultiWriter(octets, pw))) })
	defer convert.Wait()
	defer pr.Close()
	head := &headReader{r: pr}
	newHeader, err := head.read()
	if err != nil {
		return err
	}
	fields, err := l.s.cfg.Signer.Sign(ctx, d, newHeader, head)
	if err != nil {
		return fmt.Errorf("sign message %s again: %w", l.m.ID, err)
	}
	if _, err := io.Copy(io.Discard, head); err != nil {
		return err
	}
	l.fields = fields
	l.octets = octets.n + int64(len(fields))
	return nil
}

// write writes the new form without new signatures.
func (l *lowered) write(ctx context.Context, w io.Writer) error {
	src, err := l.s.cfg.Bodies.Open(ctx, l.m.ID, 0, -1)
	if err != nil {
		return err
	}
	defer src.Close()
	strip := &stripper{w: w}
	if err := l.plan.Convert(strip, src); err != nil {
		return err
	}
	return strip.flush()
}

// open reads the new form. The goroutine that writes it ends with the reader's Close.
func (l *lowered) open(ctx context.Context) (io.ReadCloser, error) {
	pr, pw := io.Pipe()
	p := &piped{PipeReader: pr}
	p.writer.Go(func() { pw.CloseWithError(l.write(ctx, pw)) })
	p.Reader = io.MultiReader(bytes.NewReader(l.fields), pr)
	return p, nil
}

// piped is a reader whose writer is waited for.
type piped struct {
	io.Reader
	*io.PipeReader
	writer sync.WaitGroup
}

// Read implements io.Reader.
func (p *piped) Read(b []byte) (int, error) { return p.Reader.Read(b) }

// Close implements io.Closer.
func (p *piped) Close() error {
	err := p.PipeReader.Close()
	p.writer.Wait()
	return err
}

// counter counts octets.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// authorDomain is the domain of the first From address in A-labels, for which submissions
// are signed; "" when the field is not well-formed. What a comment holds is no address: it
// would be signed for whom it names.
func authorDomain(header []byte) string {
	value, _ := message.Get(header, "From")
	list, err := message.ParseAddressList(value)
	if err != nil || len(list) == 0 {
		return ""
	}
	return list[0].Address.Domain().String()
}

// signatures looks at DKIM-Signature fields: whether there are any of the domain, and
// which other domain has signed.
func signatures(header []byte, domain string) (ours bool, foreign string) {
	for f := range message.Fields(header) {
		if !f.Is("DKIM-Signature") {
			continue
		}
		d := "somebody"
		for tag := range strings.SplitSeq(f.Value(), ";") {
			if name, value, ok := strings.Cut(tag, "="); ok && strings.TrimSpace(name) == "d" {
				d = strings.ToLower(strings.Join(strings.Fields(value), ""))
			}
		}
		if d != domain {
			return ours, d
		}
		ours = true
	}
	return ours, ""
}

// stripper takes the DKIM-Signature fields out of the header section that passes by: the
// new form has new ones.
type stripper struct {
	w    io.Writer
	head []byte
	done bool
}

// Write implements io.Writer.
func (s *stripper) Write(p []byte) (int, error) {
	if s.done {
		return s.w.Write(p)
	}
	from := len(s.head)
	s.head = append(s.head, p...)
	n, complete := message.HeaderLen(s.head, from)
	if !complete && len(s.head) < message.MaxHeaderOctets+4096 {
		return len(p), nil
	}
	if err := s.pass(n); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *stripper) pass(n int) error {
	s.done = true
	header := message.Strip(s.head[:n], func(f message.Field) bool { return f.Is("DKIM-Signature") })
	if _, err := s.w.Write(header); err != nil {
		return err
	}
	_, err := s.w.Write(s.head[n:])
	s.head = nil
	return err
}

func (s *stripper) flush() error {
	if s.done {
		return nil
	}
	return s.pass(len(s.head))
}

// headReader gives out a header section first, then what follows the empty line.
type headReader struct {
	r    io.Reader
	rest []byte
}

// read reads the header section.
func (h *headReader) read() ([]byte, error) {
	var head []byte
	buf := make([]byte, 4096)
	for {
		n, err := h.r.Read(buf)
		from := len(head)
		head = append(head, buf[:n]...)
		end, complete := message.HeaderLen(head, from)
		if complete || err == io.EOF || len(head) > message.MaxHeaderOctets { //nolint:errorlint // io.Reader returns it bare
			h.rest = bytes.TrimPrefix(head[end:], []byte("\r\n"))
			return head[:end:end], nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Read implements io.Reader.
func (h *headReader) Read(p []byte) (int, error) {
	if len(h.rest) > 0 {
		n := copy(p, h.rest)
		h.rest = h.rest[n:]
		return n, nil
	}
	return h.r.Read(p)
}
