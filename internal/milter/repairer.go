package milter

import "io"

// repairer writes a body with CRLF line ends whatever the milter wrote: nothing may leave this
// server with a bare CR or LF. It works on pieces as they come.
type repairer struct {
	w       io.Writer
	cr      bool // a CR waits for what follows it
	partial bool // the last line has no end yet
	written int64
	out     []byte
}

func (p *repairer) write(data []byte) error {
	p.out = p.out[:0]
	for _, b := range data {
		switch {
		case b == '\n':
			p.out = append(p.out, '\r', '\n')
			p.cr, p.partial = false, false
			continue
		case p.cr:
			p.out = append(p.out, '\r', '\n')
			p.cr, p.partial = false, false
		}
		if b == '\r' {
			p.cr = true
			continue
		}
		p.out, p.partial = append(p.out, b), true
	}
	return p.flush()
}

// close ends the last line.
func (p *repairer) close() error {
	p.out = p.out[:0]
	if p.cr || p.partial {
		p.out = append(p.out, '\r', '\n')
	}
	return p.flush()
}

func (p *repairer) flush() error {
	n, err := p.w.Write(p.out)
	p.written += int64(n)
	return err
}
