package content

import (
	"strconv"
	"strings"

	"golang.org/x/net/html/atom"
)

// hide decides whether an element hides what is inside. It goes by the element's own
// attributes, by no style sheet, and needs no memory of the elements around: rules of thumb.
func (h *htmlReader) hide(tag atom.Atom, a attributes, selfClosing bool) {
	style := readStyle(a.style)
	if h.hiding != 0 {
		switch {
		case h.bySize && style.size == sizeSeen:
			h.hiding = 0
		case tag == h.hiding && closesItself(tag), h.hiding == atom.P && blocks[tag]:
			h.hiding = 0
		case tag == h.hiding && !voids[tag] && !selfClosing:
			h.hidingDepth++
			return
		default:
			return
		}
	}
	background := a.bgcolor
	if style.background != "" {
		background = style.background
	}
	color := a.color
	if style.color != "" {
		color = style.color
	}
	if background != "" && !white(background) {
		h.dark = true
	}
	if tag == atom.Body || tag == atom.Html || tag == 0 || voids[tag] || selfClosing {
		return
	}
	same := color != "" && (background != "" && sameColor(color, background) || background == "" && white(color) && !h.dark)
	if a.hidden || style.hidden || style.size == sizeZero || same {
		h.hiding, h.hidingDepth, h.bySize = tag, 1, style.size == sizeZero && !style.hidden && !a.hidden && !same
	}
}

// closesItself reports elements that end where the next of their kind begins.
func closesItself(tag atom.Atom) bool {
	return tag == atom.P || tag == atom.Li || tag == atom.Td || tag == atom.Tr || tag == atom.Option || tag == atom.Dd || tag == atom.Dt
}

type fontSize uint8

const (
	sizeUnknown fontSize = iota
	sizeZero
	sizeSeen
)

// style is what of a style attribute matters.
type style struct {
	hidden            bool
	size              fontSize
	color, background string
}

// readStyle reads declarations; those it does not know are passed over.
func readStyle(s string) (st style) {
	if s == "" {
		return st
	}
	maxHeight, clipped := false, false
	for d := range strings.SplitSeq(s, ";") {
		name, value, ok := strings.Cut(d, ":")
		if !ok {
			continue
		}
		value = strings.ToLower(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "!important")))
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "display":
			st.hidden = st.hidden || value == "none"
		case "visibility":
			st.hidden = st.hidden || value == "hidden" || value == "collapse"
		case "opacity":
			v, err := strconv.ParseFloat(value, 64)
			st.hidden = st.hidden || err == nil && v < 0.05
		case "font-size", "font":
			st.size = readSize(value, st.size)
		case "max-height", "height", "max-width", "width":
			maxHeight = maxHeight || value == "0" || value == "0px"
		case "overflow":
			clipped = value == "hidden"
		case "text-indent", "left", "margin-left":
			v, err := strconv.Atoi(strings.TrimSuffix(value, "px"))
			st.hidden = st.hidden || err == nil && v < -500
		case "color":
			st.color = value
		case "background", "background-color":
			if f := strings.Fields(value); len(f) > 0 && !strings.HasPrefix(f[0], "url(") && f[0] != "transparent" && f[0] != "none" && f[0] != "inherit" {
				st.background = f[0]
			} else if len(f) > 0 && strings.HasPrefix(f[0], "url(") {
				st.background = "image"
			}
		}
	}
	st.hidden = st.hidden || maxHeight && clipped
	return st
}

// readSize says whether text of a size can be read.
func readSize(value string, was fontSize) fontSize {
	for f := range strings.FieldsSeq(value) {
		n := 0
		for n < len(f) && ('0' <= f[n] && f[n] <= '9' || f[n] == '.') {
			n++
		}
		if n == 0 {
			if strings.Contains("xx-small x-small small medium large x-large xx-large smaller larger", f) {
				return sizeSeen
			}
			continue
		}
		v, err := strconv.ParseFloat(f[:n], 64)
		if unit, _, _ := strings.Cut(f[n:], "/"); err != nil || v > 1 || v > 0 && unit != "px" && unit != "pt" && unit != "%" {
			return sizeSeen
		}
		return sizeZero
	}
	return was
}

// rgb reads a colour; ok is false when it is none that is known.
func rgb(s string) (c [3]int, ok bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	if v, known := colors[s]; known {
		s = v
	}
	if inner, fn := strings.CutPrefix(s, "rgb"); fn {
		inner = strings.Trim(strings.TrimPrefix(inner, "a"), "() ")
		f := strings.FieldsFunc(inner, func(r rune) bool { return r == ',' || r == ' ' || r == '/' })
		for i := range 3 {
			if i >= len(f) {
				return c, false
			}
			v, err := strconv.Atoi(f[i])
			if err != nil {
				return c, false
			}
			c[i] = v
		}
		return c, true
	}
	s = strings.TrimPrefix(s, "#")
	if len(s) == 3 {
		s = string([]byte{s[0], s[0], s[1], s[1], s[2], s[2]})
	}
	v, err := strconv.ParseUint(s, 16, 32)
	if len(s) != 6 || err != nil {
		return c, false
	}
	return [3]int{int(v >> 16), int(v >> 8 & 255), int(v & 255)}, true
}

// colors are the names that matter for hiding.
var colors = map[string]string{"white": "#ffffff", "snow": "#fffafa", "ivory": "#fffff0", "black": "#000000", "red": "#ff0000", "blue": "#0000ff", "yellow": "#ffff00", "whitesmoke": "#f5f5f5"}

func white(s string) bool {
	c, ok := rgb(s)
	return ok && c[0] > 245 && c[1] > 245 && c[2] > 245
}

func sameColor(a, b string) bool {
	c, ok := rgb(a)
	d, ok2 := rgb(b)
	if !ok || !ok2 {
		return false
	}
	for i := range 3 {
		if c[i]-d[i] > 10 || d[i]-c[i] > 10 {
			return false
		}
	}
	return true
}
