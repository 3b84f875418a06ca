package compose

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Lengths of lines in characters.
const (
	flowAt  = 72 // where a paragraph is broken (RFC 3676 §4.2 asks for 78 at most)
	flowMax = 78 // a longer line is broken
)

// signature parts a text from the signature below it (RFC 3676 §4.3).
const signature = "-- "

// flowed writes text as format=flowed (RFC 3676): paragraphs are broken with soft line breaks, so
// that programs can fill them anew. Quotes stay as they are. Lines end with CRLF.
func flowed(text string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.TrimRight(strings.ReplaceAll(text, "\r", "\n"), "\n")
	var b strings.Builder
	b.Grow(len(text) + len(text)/32 + 2)
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case line == signature:
			b.WriteString(line)
		case strings.HasPrefix(line, ">"): // RFC 3676 §4.5
			b.WriteString(strings.TrimRight(line, " "))
		default:
			flowLine(&b, strings.TrimRight(line, " "))
		}
		b.WriteString("\r\n")
	}
	return b.String()
}

// flowLine writes one paragraph.
func flowLine(b *strings.Builder, line string) {
	for {
		if line != "" && (line[0] == ' ' || line[0] == '>' || strings.HasPrefix(line, "From ")) { // RFC 3676 §4.4
			b.WriteByte(' ')
		}
		cut := breakAt(line, flowAt)
		if fits(line) || cut < 0 {
			b.WriteString(line)
			return
		}
		b.WriteString(line[:cut])
		b.WriteString("\r\n")
		line = line[cut:]
	}
}

// fits reports whether a line need not be broken. It looks no further than that takes: a paragraph
// may have megabytes.
func fits(line string) bool {
	return len(line) <= flowMax || len(line) <= flowMax*utf8.UTFMax && utf8.RuneCountInString(line) <= flowMax
}

// breakAt is where a line is broken: behind the last blank within limit characters, or the first
// after it; -1 when there is none. A break leaves something on both sides.
func breakAt(line string, limit int) int {
	at, n, words := -1, 0, false
	for i, r := range line {
		words = words || !unicode.IsSpace(r)
		if n++; r == ' ' && i+1 < len(line) && line[i+1] != ' ' && words && line[:i+1] != signature {
			if n > limit && at >= 0 {
				return at
			}
			at = i + 1
			if n > limit {
				return at
			}
		}
	}
	return at
}

// unflowed is the text of format=flowed with its paragraphs in one line each (RFC 3676 §4.1).
func unflowed(text string, delSp bool) string {
	var b strings.Builder
	depth, open := 0, false // of the paragraph that goes on
	for i, line := range lines(text) {
		d := 0
		for d < len(line) && line[d] == '>' {
			d++
		}
		content := strings.TrimPrefix(line[d:], " ")
		if line == signature {
			content = line
		}
		soft := strings.HasSuffix(content, " ") && content != signature
		if soft && delSp {
			content = content[:len(content)-1]
		}
		if !open || d != depth || content == signature {
			if i > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(strings.Repeat(">", d))
			if d > 0 && content != "" {
				b.WriteByte(' ')
			}
		}
		b.WriteString(content)
		depth, open = d, soft
	}
	return b.String()
}

// lines are a text's lines without their ends; a last empty one is none.
func lines(text string) []string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// quoted is a text as a reply quotes it, without the signature below it.
func quoted(text string) string {
	var b strings.Builder
	for _, line := range lines(strings.Trim(text, "\r\n")) {
		if line == signature {
			break
		}
		if strings.HasPrefix(line, ">") {
			b.WriteString(">" + strings.TrimRight(line, " ") + "\n")
			continue
		}
		for {
			cut := breakAt(line, flowAt)
			if fits(line) || cut < 0 {
				break
			}
			b.WriteString("> " + strings.TrimRight(line[:cut], " ") + "\n")
			line = line[cut:]
		}
		b.WriteString(strings.TrimRight("> "+line, " ") + "\n")
	}
	return b.String()
}
