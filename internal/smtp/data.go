package smtp

import "bytes"

// DataFacts is what a Decoder has noticed in mail data. Octets and lengths are of
// the decoded form.
type DataFacts struct {
	Octets      int64 // decoded so far
	LongestLine int   // octets without CRLF; lines that have not ended count
	BareCR      bool  // a CR without LF: refused, 550 5.6.0 (RFC 5321 §2.3.8)
	BareLF      bool  // an LF without CR: refused likewise
	NUL         bool
	EightBit    bool // an octet from 0x80
}

// Refusal returns the refusal of data that can't be passed on (a bare CR or LF), or nil.
func (f *DataFacts) Refusal() *Error {
	switch {
	case f.BareLF:
		return Refuse(550, 6, 0, "Message has a bare LF: lines must end with CRLF (RFC 5321 section 2.3.8)")
	case f.BareCR:
		return Refuse(550, 6, 0, "Message has a bare CR: lines must end with CRLF (RFC 5321 section 2.3.8)")
	}
	return nil
}

// dataState is where a Decoder stands.
type dataState uint8

const (
	atLineStart dataState = iota // behind CRLF, or at the beginning
	inLine                       // behind any octet but CR
	behindCR                     // behind CR; it is already in the output
	behindDot                    // behind a line's first dot, which is withheld
	behindDotCR                  // behind dot and CR at a line's start, both withheld
	atEnd                        // behind CRLF.CRLF
)

// Decoder undoes the transparency of mail data (RFC 5321 §4.5.2): it takes off the
// dot that begins a line and finds the end, which is CRLF.CRLF and nothing else.
// What it decodes does not depend on how its input is cut into pieces. It keeps
// every octet, bare CR and LF among them, and notes what it saw. The zero value is
// ready for what follows DATA; a Decoder with Chunked set passes the octets of BDAT
// through, where dots mean nothing and the end comes from outside (RFC 3030 §2).
// Not for concurrent use.
type Decoder struct {
	Chunked bool
	Facts   DataFacts

	state dataState
	line  int // octets of the line so far, without CR
}

// Decode decodes from src into dst, as much as fits, and returns how many octets
// it wrote and how many it took. done reports that the end was taken; what is left
// of src is not mail data. dst and src must not overlap. Each call with room and
// input makes progress.
func (d *Decoder) Decode(dst, src []byte) (nDst, nSrc int, done bool) {
	for nSrc < len(src) && d.state != atEnd {
		switch {
		case d.state == behindDot:
			switch c := src[nSrc]; c {
			case '\r':
				d.state = behindDotCR
				nSrc++
			default: // the dot was stuffed, or stands alone before a bare LF
				d.state = inLine
			}
		case d.state == behindDotCR:
			if src[nSrc] == '\n' {
				d.state = atEnd
				nSrc++
				break
			}
			if nDst == len(dst) { // the withheld CR needs room
				return nDst, nSrc, false
			}
			dst[nDst] = '\r'
			nDst++
			d.Facts.Octets++
			d.state = behindCR
		case d.state == atLineStart && src[nSrc] == '.' && !d.Chunked:
			d.state = behindDot
			nSrc++
		default:
			n := min(len(dst)-nDst, len(src)-nSrc)
			if n == 0 {
				return nDst, nSrc, false
			}
			n = d.run(src[nSrc : nSrc+n])
			copy(dst[nDst:], src[nSrc:nSrc+n])
			nDst += n
			nSrc += n
		}
	}
	return nDst, nSrc, d.state == atEnd
}

// run judges octets that go through unchanged and returns how many they are: up to
// a dot at a line's start. b is not empty, and its first octet is no such dot.
func (d *Decoder) run(b []byte) int {
	if d.state == behindCR && b[0] != '\n' {
		d.Facts.BareCR = true
		d.state = inLine
		d.line++ // the CR belongs to the line after all
	}
	wasCR := d.state == behindCR
	pairs, i, start := 0, 0, 0
	for {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			i = len(b)
			break
		}
		i += n
		if i > 0 && b[i-1] == '\r' || i == 0 && wasCR {
			d.endLine(i - start - 1)
			if i > 0 {
				pairs++
			}
			i++
			start = i
			if i < len(b) && b[i] == '.' && !d.Chunked {
				break
			}
		} else {
			d.Facts.BareLF = true
			i++
		}
		if i == len(b) {
			break
		}
	}
	d.endRun(b[:i], start, pairs)
	return i
}

// endLine notes the length of a line that ended n octets into the run: -1 when its
// CR lay in the run before, where it was not counted.
func (d *Decoder) endLine(n int) {
	d.Facts.LongestLine = max(d.Facts.LongestLine, d.line+max(n, 0))
	d.line = 0
}

// endRun takes the state behind run, whose last line begins at start and which has
// so many CRLF whose CR is in the run.
func (d *Decoder) endRun(run []byte, start, pairs int) {
	crs := bytes.Count(run, crByte)
	switch {
	case start == len(run):
		d.state = atLineStart
	case run[len(run)-1] == '\r':
		d.state = behindCR
		crs--
		d.line += len(run) - start - 1
	default:
		d.state = inLine
		d.line += len(run) - start
	}
	d.Facts.LongestLine = max(d.Facts.LongestLine, d.line)
	if crs > pairs {
		d.Facts.BareCR = true
	}
	d.Facts.Octets += int64(len(run))
	d.Facts.NUL = d.Facts.NUL || bytes.IndexByte(run, 0) >= 0
	d.Facts.EightBit = d.Facts.EightBit || hasEightBit(run)
}

var crByte = []byte{'\r'}

// Finish ends data that came in chunks: it notes a CR at the very end as bare, and
// returns what must be added so that the data end with CRLF; nothing to empty data.
// What is added counts in Facts.
func (d *Decoder) Finish() string {
	if d.state == behindCR {
		d.Facts.BareCR = true
	}
	if d.state == atLineStart {
		return ""
	}
	d.state = atLineStart
	d.line = 0
	d.Facts.Octets += 2
	return "\r\n"
}
