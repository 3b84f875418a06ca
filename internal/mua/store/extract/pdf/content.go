package pdf

import (
	"bytes"
	"math"
)

// matrix maps places (ISO 32000-2 §8.3.3).
type matrix [6]float64

var upright = matrix{1, 0, 0, 1, 0, 0}

// times is first m, then n.
func (m matrix) times(n matrix) matrix {
	return matrix{
		m[0]*n[0] + m[1]*n[2], m[0]*n[1] + m[1]*n[3],
		m[2]*n[0] + m[3]*n[2], m[2]*n[1] + m[3]*n[3],
		m[4]*n[0] + m[5]*n[2] + n[4], m[4]*n[1] + m[5]*n[3] + n[5],
	}
}

// state is the part of the graphics state that tells where text lies.
type state struct {
	ctm                              matrix
	font                             *font
	size, spacing, wordSpacing, lead float64
	stretch, rise                    float64
}

// scope is where a program's names are looked up.
type scope struct {
	resources           dict
	fonts, forms, marks dict // read when they are asked for
	loaded              map[name]*font
}

// part is one kind of resources.
func (p *program) part(d *dict, key name) dict {
	if *d == nil {
		if *d = p.f.dict(p.in.resources[key]); *d == nil {
			*d = dict{}
		}
	}
	return *d
}

// font is the font of a name.
func (p *program) font(key name) *font {
	t, ok := p.in.loaded[key]
	if !ok {
		t = p.f.loadFont(p.part(&p.in.fonts, "Font")[key])
		if len(p.in.loaded) >= maxFonts/4 {
			clear(p.in.loaded)
		}
		p.in.loaded[key] = t
	}
	return t
}

// program runs a page's program for the text it shows.
type program struct {
	f        *file
	out      *sheet
	in       *scope
	s        state
	saved    []state
	at, line matrix // Tm and the start of the line
	marked   []bool // contents that are marked: whether their text is given
	given    int    // how many of them give their text
	depth    int    // of forms
}

// run runs a program; a form's is run within its page's.
func (p *program) run(b []byte, resources dict, ctm matrix) {
	was, saved, state := p.in, p.saved, p.s
	p.in, p.saved = &scope{resources: resources, loaded: make(map[name]*font)}, nil
	if p.depth == 0 {
		p.s.stretch = 1
	}
	p.s.ctm = ctm
	l := lexer{b: b, w: p.f.w}
	var args []any
	for !p.out.full() {
		l.nodes = 0
		v := l.value(0)
		o, ok := v.(op)
		switch {
		case !ok:
			if len(args) < 64 {
				args = append(args, v)
			}
			continue
		case o == end:
			p.in, p.saved, p.s = was, saved, state
			return
		case o == "ID":
			l.at += image(l.b[l.at:])
		default:
			p.do(o, args)
		}
		args = args[:0]
	}
	p.in, p.saved, p.s = was, saved, state
}

// image is the length of an inline image's data.
func image(b []byte) int {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("EI"))
		if i < 0 {
			return len(b)
		}
		at += i + 2
		if at > 2 && blank(b[at-3]) && (at == len(b) || blank(b[at])) {
			return at
		}
	}
}

// numbers are the last n arguments.
func numbers(args []any, n int) ([]float64, bool) {
	if len(args) < n {
		return nil, false
	}
	out := make([]float64, n)
	for i, v := range args[len(args)-n:] {
		out[i], _ = v.(float64)
	}
	return out, true
}

// do does one operation.
func (p *program) do(o op, args []any) {
	switch o {
	case "q":
		if len(p.saved) < 64 {
			p.saved = append(p.saved, p.s)
		}
	case "Q":
		if n := len(p.saved); n > 0 {
			p.s, p.saved = p.saved[n-1], p.saved[:n-1]
		}
	case "cm":
		if n, ok := numbers(args, 6); ok {
			p.s.ctm = matrix(n).times(p.s.ctm)
		}
	case "BT":
		p.at, p.line = upright, upright
	case "Tj", "TJ", "'", "\"":
		p.show(o, args)
	case "Td", "TD", "Tm", "T*":
		p.move(o, args)
	case "Tf":
		if n, ok := numbers(args, 1); ok && len(args) >= 2 {
			key, _ := args[len(args)-2].(name)
			p.s.font, p.s.size = p.font(key), n[0]
		}
	case "gs":
		if len(args) > 0 {
			key, _ := args[0].(name)
			if l := p.f.list(p.f.dict(p.f.dict(p.in.resources["ExtGState"])[key])["Font"]); len(l) == 2 {
				p.s.font, p.s.size = p.f.loadFont(l[0]), p.f.number(l[1])
			}
		}
	case "Tc", "Tw", "Tz", "TL", "Ts":
		p.set(o, args)
	case "Do":
		p.form(args)
	case "BMC", "BDC", "EMC":
		p.mark(o, args)
	}
}

// set sets one number of the state.
func (p *program) set(o op, args []any) {
	n, ok := numbers(args, 1)
	if !ok {
		return
	}
	switch o {
	case "Tc":
		p.s.spacing = n[0]
	case "Tw":
		p.s.wordSpacing = n[0]
	case "Tz":
		p.s.stretch = n[0] / 100
	case "TL":
		p.s.lead = n[0]
	case "Ts":
		p.s.rise = n[0]
	}
}

// move goes to another line (ISO 32000-2 §9.4.2).
func (p *program) move(o op, args []any) {
	x, y := 0.0, -p.s.lead
	switch o {
	case "Tm":
		if n, ok := numbers(args, 6); ok {
			p.at, p.line = matrix(n), matrix(n)
		}
		return
	case "Td", "TD":
		n, ok := numbers(args, 2)
		if !ok {
			return
		}
		if x, y = n[0], n[1]; o == "TD" {
			p.s.lead = -y
		}
	}
	p.line = matrix{1, 0, 0, 1, x, y}.times(p.line)
	p.at = p.line
}

// show shows text (ISO 32000-2 §9.4.3).
func (p *program) show(o op, args []any) {
	if o == "\"" {
		if n, ok := numbers(args[:min(2, len(args))], 2); ok {
			p.s.wordSpacing, p.s.spacing = n[0], n[1]
		}
	}
	if o == "'" || o == "\"" {
		p.move("T*", nil)
	}
	if len(args) == 0 || p.s.font == nil {
		return
	}
	pieces, ok := args[len(args)-1].([]any)
	if !ok {
		pieces = args[len(args)-1:]
	}
	for _, v := range pieces {
		switch v := v.(type) {
		case float64:
			p.advance(-v / 1000 * p.s.size * p.s.stretch)
		case []byte:
			p.string(v)
		}
	}
}

// advance goes along the line.
func (p *program) advance(x float64) { p.at = matrix{1, 0, 0, 1, x, 0}.times(p.at) }

// string shows one string.
func (p *program) string(b []byte) {
	s := &p.s
	p.f.w.spend(32 * len(b))
	p.s.font.letters(b, func(c letter) {
		m := p.at.times(s.ctm)
		ux, uy := m[0], m[1]
		unit := math.Hypot(ux, uy)
		if unit > 0 {
			ux, uy = ux/unit, uy/unit
		}
		size := math.Abs(s.size) * math.Hypot(m[2], m[3])
		if s.font.scale != 0.001 { // a Type 3 font's letters have a size of their own
			size *= math.Abs(s.font.scale) * 1000
		}
		x, y := m[4]+s.rise*m[2], m[5]+s.rise*m[3]
		along := c.width*s.size + s.spacing
		if c.blank {
			along += s.wordSpacing
		}
		p.advance(along * s.stretch)
		switch {
		case accent(c.text): // drawn apart: without it words are still found
			return
		case p.given > 0:
		case c.text == " ":
			p.out.space()
		default:
			p.out.put(c.text, x, y, ux, uy, size)
		}
		if c.text != "" {
			m = p.at.times(s.ctm)
			p.out.ended(m[4]+s.rise*m[2], m[5]+s.rise*m[3])
		}
	})
}

// accent reports a mark that stands by itself.
func accent(s string) bool {
	switch s {
	case "´", "ˆ", "˜", "¯", "˘", "˙", "¨", "˚", "¸", "˝", "˛", "ˇ":
		return true
	}
	return false
}

// form runs a form that is drawn (ISO 32000-2 §8.10).
func (p *program) form(args []any) {
	if len(args) == 0 || p.depth >= maxDepth/2 {
		return
	}
	key, _ := args[len(args)-1].(name)
	v := p.part(&p.in.forms, "XObject")[key]
	s, ok := p.f.resolve(v).(stream)
	if !ok || p.f.name(s.dict["Subtype"]) != "Form" || !p.f.w.spend(2000) {
		return
	}
	ctm := p.s.ctm
	if l := p.f.list(s.dict["Matrix"]); len(l) == 6 {
		var m matrix
		for i := range m {
			m[i] = p.f.number(l[i])
		}
		ctm = m.times(ctm)
	}
	resources := p.f.dict(s.dict["Resources"])
	if resources == nil {
		resources = p.in.resources
	}
	at, line := p.at, p.line
	p.depth++
	p.run(p.f.decode(s), resources, ctm)
	p.depth--
	p.at, p.line = at, line
}

// mark begins or ends marked content; what is to be read in its stead may be given (ISO 32000-2 §14.9.4).
func (p *program) mark(o op, args []any) {
	if o == "EMC" {
		if n := len(p.marked); n > 0 {
			if p.marked[n-1] {
				p.given--
			}
			p.marked = p.marked[:n-1]
		}
		return
	}
	if len(p.marked) >= 256 {
		return
	}
	gives := false
	if o == "BDC" && len(args) >= 2 {
		d, ok := args[1].(dict)
		if n, isName := args[1].(name); isName {
			d, ok = p.f.dict(p.part(&p.in.marks, "Properties")[n]), true
		}
		if b := p.f.bytes(d["ActualText"]); ok && b != nil && p.given == 0 {
			gives = true
			p.instead(text(b))
		}
	}
	p.marked = append(p.marked, gives)
	if gives {
		p.given++
	}
}

// instead puts a text where the letters would be.
func (p *program) instead(s string) {
	m := p.at.times(p.s.ctm)
	size := math.Abs(p.s.size) * math.Hypot(m[2], m[3])
	unit := math.Hypot(m[0], m[1])
	if unit == 0 {
		unit = 1
	}
	p.out.put(s, m[4], m[5], m[0]/unit, m[1]/unit, size)
}
