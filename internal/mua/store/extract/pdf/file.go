package pdf

import (
	"bytes"
	"encoding/binary"
)

// file is a PDF file: its objects by number.
type file struct {
	raw      []byte
	w        *work
	at       map[int]place
	boxed    []int // numbers of object streams, in the file's order
	trailers []int // where dictionaries that may be the trailer begin
	trailer  dict
	key      *key
	boxes    map[int][]byte // object streams, decoded
	held     int            // octets of them
	fonts    map[int]*font
	entries  int // in these fonts
	depth    int // of references that are being followed
}

// place says where an object lies.
type place struct {
	off int // behind "obj"; of an object in a stream that stream's
	box int // the number of the object stream, or 0
	in  int // where in that stream
	gen int
}

// finder finds the next of one word, in linear time over all questions of rising places.
type finder struct {
	b    []byte
	word []byte
	next int
}

func (f *finder) from(at int) int {
	if f.next < at {
		f.next = len(f.b)
		if i := bytes.Index(f.b[min(at, len(f.b)):], f.word); i >= 0 {
			f.next = at + i
		}
	}
	return f.next
}

func find(b []byte, word string) *finder { return &finder{b: b, word: []byte(word), next: -1} }

// scan finds the objects by their headers, "7 0 obj".
func (f *file) scan() {
	f.w.spend(len(f.raw))
	objs, streams, ends := find(f.raw, "obj"), find(f.raw, "stream"), find(f.raw, "endstream")
	for at := objs.from(0); at < len(f.raw) && f.w.spend(64); at = objs.from(at) {
		num, gen, ok := header(f.raw[:at])
		if at += 3; !ok {
			continue
		}
		if _, there := f.at[num]; !there && len(f.at) >= maxObjects {
			return
		}
		f.at[num] = place{off: at, gen: gen}
		stop := objs.from(at)
		for stop < len(f.raw) && !bytes.HasSuffix(f.raw[:stop], []byte("end")) {
			if _, _, ok := header(f.raw[:stop]); ok {
				break
			}
			stop = objs.from(stop + 3)
		}
		s := streams.from(at)
		if s >= stop {
			at = stop
			continue
		}
		head := f.raw[at:s]
		switch {
		case bytes.Contains(head, []byte("/ObjStm")):
			f.boxed = append(f.boxed, num)
		case bytes.Contains(head, []byte("/XRef")):
			f.trailers = append(f.trailers, at)
		}
		at = f.behind(head, s+6, ends)
	}
}

// behind is where a stream ends: the octets of its length are passed over, if that is true.
func (f *file) behind(head []byte, data int, ends *finder) int {
	if i := bytes.Index(head, []byte("/Length")); i >= 0 {
		l := lexer{b: head[i:], at: 7, w: f.w}
		if n, ok := l.token().(float64); ok && n >= 0 && n < float64(len(f.raw)-data) {
			if to := data + int(n); bytes.Contains(f.raw[to:min(to+20, len(f.raw))], []byte("endstream")) {
				return to
			}
		}
	}
	return ends.from(data)
}

// header reads the numbers that b ends with: of an object, and of its generation.
func header(b []byte) (num, gen int, ok bool) {
	gen, b, ok = number(b)
	if !ok {
		return 0, 0, false
	}
	num, _, ok = number(b)
	return num, gen, ok && num > 0
}

// number reads the number that b ends with, and the blanks in front of and behind it.
func number(b []byte) (int, []byte, bool) {
	i := len(b)
	for n := 0; i > 0 && blank(b[i-1]) && n < 8; n++ {
		i--
	}
	e := i
	for i > 0 && e-i < 10 && b[i-1] >= '0' && b[i-1] <= '9' {
		i--
	}
	n := 0
	for _, c := range b[i:e] {
		n = n*10 + int(c-'0')
	}
	return n, b[:i], i < e && n < 1<<31
}

// open reads what lies in object streams, and chooses the trailer; strings and streams can be read now.
func (f *file) open() {
	for _, num := range f.boxed {
		p := f.at[num]
		s, ok := f.object(num).(stream)
		if !ok {
			continue
		}
		data := f.decode(s)
		first, n := f.integer(s.dict["First"]), f.integer(s.dict["N"])
		l := lexer{b: data[:min(max(first, 0), len(data))], w: f.w}
		for range min(n, maxObjects) {
			id, ok1 := l.token().(float64)
			off, ok2 := l.token().(float64)
			if !ok1 || !ok2 {
				break
			}
			to := int(id)
			if old, there := f.at[to]; there && old.off > p.off || !there && len(f.at) >= maxObjects || to <= 0 {
				continue // changed later
			}
			if in := first + int(off); in >= 0 && in < len(data) {
				f.at[to] = place{off: p.off, box: num, in: in}
			}
		}
		f.hold(num, data)
	}
}

// hold keeps an object stream, and forgets others when they are too many.
func (f *file) hold(num int, data []byte) {
	if f.held+len(data) > maxHeld {
		clear(f.boxes)
		f.held = 0
	}
	f.boxes[num] = data
	f.held += len(data)
}

// unlock chooses the trailer and makes the key, if there is one.
func (f *file) unlock() error {
	for at, n := bytes.LastIndex(f.raw, []byte("trailer")), 0; at >= 0 && n < 16; n++ {
		f.trailers = append(f.trailers, at+7)
		f.w.spend(at / 16)
		at = bytes.LastIndex(f.raw[:at], []byte("trailer"))
	}
	for i, n := len(f.trailers)-1, 0; i >= 0 && n < 48; i, n = i-1, n+1 {
		l := lexer{b: f.raw, at: f.trailers[i], w: f.w}
		d, ok := l.value(0).(dict)
		if !ok || d["Root"] == nil || f.trailer != nil && f.trailer["Encrypt"] != nil {
			continue
		}
		if f.trailer == nil || d["Encrypt"] != nil {
			f.trailer = d
		}
	}
	d := f.dict(f.trailer["Encrypt"])
	if d == nil {
		return nil
	}
	id, _ := f.resolve(f.trailer["ID"]).([]any)
	var first []byte
	if len(id) > 0 {
		first, _ = f.resolve(id[0]).([]byte)
	}
	k, err := f.newKey(d, first)
	if r, ok := f.trailer["Encrypt"].(ref); ok && k != nil {
		k.self = r.num
	}
	f.key = k
	return err
}

// object reads an object, nil when there is none.
func (f *file) object(num int) any {
	p, ok := f.at[num]
	if !ok || !f.w.spend(100) {
		return nil
	}
	if p.box != 0 {
		data, ok := f.boxes[p.box]
		if !ok {
			if box := f.at[p.box]; box.box != 0 { // an object stream lies in none
				return nil
			}
			s, _ := f.object(p.box).(stream)
			data = f.decode(s)
			f.hold(p.box, data)
		}
		if p.in >= len(data) {
			return nil
		}
		l := lexer{b: data, at: p.in, w: f.w}
		return l.value(0)
	}
	l := lexer{b: f.raw, at: p.off, w: f.w}
	v := l.value(0)
	if f.key != nil && f.key.self != num {
		v = f.key.strings(v, num, p.gen)
	}
	d, ok := v.(dict)
	if !ok {
		return v
	}
	l.skip()
	if !bytes.HasPrefix(f.raw[l.at:], []byte("stream")) {
		return d
	}
	return stream{dict: d, data: f.body(d, l.at+6), num: num, gen: p.gen}
}

// body is a stream's octets as they stand in the file.
func (f *file) body(d dict, at int) []byte {
	rest := f.raw[at:]
	if bytes.HasPrefix(rest, []byte("\r\n")) {
		rest = rest[2:]
	} else if len(rest) > 0 && (rest[0] == '\n' || rest[0] == '\r') {
		rest = rest[1:]
	}
	if n := f.integer(d["Length"]); n > 0 && n <= len(rest) && bytes.Contains(rest[n:min(n+20, len(rest))], []byte("endstream")) {
		return rest[:n]
	}
	i := bytes.Index(rest, []byte("endstream"))
	if i < 0 {
		i = len(rest)
	}
	f.w.spend(i / 8)
	return rest[:i]
}

// resolve follows references.
func (f *file) resolve(v any) any {
	r, ok := v.(ref)
	if !ok {
		return v
	}
	if f.depth >= maxDepth {
		return nil
	}
	f.depth++
	defer func() { f.depth-- }()
	return f.resolve(f.object(r.num))
}

// dict is a value as dictionary, also that of a stream; nil when it is none.
func (f *file) dict(v any) dict {
	switch v := f.resolve(v).(type) {
	case dict:
		return v
	case stream:
		return v.dict
	}
	return nil
}

func (f *file) list(v any) []any      { l, _ := f.resolve(v).([]any); return l }
func (f *file) name(v any) name       { n, _ := f.resolve(v).(name); return n }
func (f *file) bytes(v any) []byte    { b, _ := f.resolve(v).([]byte); return b }
func (f *file) integer(v any) int     { n, _ := f.resolve(v).(float64); return int(n) }
func (f *file) number(v any) float64  { n, _ := f.resolve(v).(float64); return n }
func be16(b []byte, at int) int       { return int(binary.BigEndian.Uint16(b[at:])) }
func within(b []byte, at, n int) bool { return at >= 0 && n >= 0 && at <= len(b)-n }
