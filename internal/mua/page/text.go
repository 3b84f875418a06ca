package page

import (
	"crypto/subtle"
	"html"
	"html/template"
	"regexp"
	"strings"

	"poczta.example/poczta/internal/mime"
)

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// links finds what can be followed in a text.
var links = regexp.MustCompile(`(?i)\b(https?://[^\s<>"'` + "`" + `]+|[a-z0-9._%+-]{1,64}@[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,8})`)

// textHTML makes a text safe to show: escaped, with links, and with what it quotes and its
// signature marked as such. base is the path of our own pages.
func textHTML(text, base string) template.HTML {
	text = strings.ReplaceAll(strings.ReplaceAll(strings.TrimRight(text, " \t\r\n"), "\r\n", "\n"), "\r", "\n")
	if text == "" {
		return ""
	}
	var out strings.Builder
	depth, signature := 0, false
	for i, line := range strings.Split(text, "\n") {
		d, rest := quoted(line)
		switch {
		case line == "-- " || line == "--":
			signature = true
			closeQuotes(&out, &depth, 0)
			out.WriteString(`<div class="signature">`)
		case signature:
		default:
			if i > 0 && d == depth {
				out.WriteByte('\n')
			}
			closeQuotes(&out, &depth, d)
			for ; depth < d; depth++ {
				out.WriteString(`<blockquote>`)
			}
			line = rest
		}
		if signature && (line != "-- " && line != "--") {
			out.WriteByte('\n')
		}
		linked(&out, line, base)
	}
	closeQuotes(&out, &depth, 0)
	if signature {
		out.WriteString(`</div>`)
	}
	return template.HTML(out.String()) //nolint:gosec // linked escapes
}

func closeQuotes(out *strings.Builder, depth *int, to int) {
	for ; *depth > to; *depth-- {
		out.WriteString(`</blockquote>`)
	}
}

// maxQuotes is how deep quotes are shown within each other.
const maxQuotes = 10

// quoted parts a line from the marks of what it quotes.
func quoted(line string) (depth int, rest string) {
	for rest = line; strings.HasPrefix(rest, ">") && depth < maxQuotes; depth++ {
		rest = strings.TrimPrefix(rest[1:], " ")
	}
	return depth, rest
}

// linked writes a line, escaped.
func linked(out *strings.Builder, line, base string) {
	at := 0
	for _, m := range links.FindAllStringIndex(line, 200) {
		found := strings.TrimRight(line[m[0]:m[1]], ".,;:!?)]}'\"")
		out.WriteString(html.EscapeString(line[at:m[0]]))
		to := found
		if strings.Contains(found, "://") {
			out.WriteString(`<a rel="noopener noreferrer nofollow" target="_blank" href="` + html.EscapeString(to) + `">`)
		} else {
			out.WriteString(`<a href="` + base + `/write?to=` + html.EscapeString(template.URLQueryEscaper(to)) + `">`)
		}
		out.WriteString(html.EscapeString(found) + `</a>`)
		at = m[0] + len(found)
	}
	out.WriteString(html.EscapeString(line[at:]))
}

// unflow joins the lines of format=flowed (RFC 3676 §4) into paragraphs.
func unflow(p *mime.Part, text string) string {
	if !strings.EqualFold(p.Params["format"], "flowed") {
		return text
	}
	del := strings.EqualFold(p.Params["delsp"], "yes")
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	var out strings.Builder
	for i, line := range lines {
		depth := 0
		for depth < len(line) && line[depth] == '>' {
			depth++
		}
		content := strings.TrimPrefix(line[depth:], " ")
		if !flows(lines, i-1, depth) {
			out.WriteString(strings.Repeat(">", depth))
			if depth > 0 {
				out.WriteByte(' ')
			}
		}
		if flows(lines, i, -1) && i+1 < len(lines) && flows(lines, i, depthOf(lines[i+1])) {
			if del {
				content = content[:len(content)-1]
			}
			out.WriteString(content)
			continue
		}
		out.WriteString(content)
		out.WriteByte('\n')
	}
	return out.String()
}

func depthOf(line string) int { return len(line) - len(strings.TrimLeft(line, ">")) }

// flows reports whether line i goes on in the next one, which quotes as deeply as depth says;
// -1 does not ask.
func flows(lines []string, i, depth int) bool {
	if i < 0 {
		return false
	}
	line := lines[i]
	d := depthOf(line)
	content := strings.TrimPrefix(line[d:], " ")
	return strings.HasSuffix(content, " ") && content != "-- " && (depth < 0 || d == depth)
}
