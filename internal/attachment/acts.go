package attachment

import (
	"bytes"
	"io"

	"poczta.example/poczta/internal/verdict"
)

// sign is something in a text that acts by itself.
type sign struct {
	octets string // lower case
	name   verdict.Name
	words  string
}

// signs of each type, in lower case.
var signs = map[kind][]sign{
	"rtf": {
		{`\objupdate`, verdict.OddAttachment, "holds an object that is run when it is opened"},
		{`\objdata`, verdict.OddAttachment, "holds an object of another program"},
		{`\objocx`, verdict.OddAttachment, "holds a control"},
		{`\ddeauto`, verdict.OddAttachment, "starts another program"},
		{`\*\template http`, verdict.OddAttachment, "fetches its template from elsewhere"},
	},
	"html": {
		{"<script", verdict.OddAttachment, "is a web page with a script"},
		{"javascript:", verdict.OddAttachment, "is a web page with a script"},
		{"mssaveoropenblob", verdict.BadAttachment, "is a web page that makes a file"},
		{"createobjecturl", verdict.BadAttachment, "is a web page that makes a file"},
		{"<hta:application", verdict.BadAttachment, "is a program written as a web page"},
	},
	"svg": {
		{"<script", verdict.BadAttachment, "is an image with a script"},
		{"javascript:", verdict.BadAttachment, "is an image with a script"},
		{"onload=", verdict.BadAttachment, "is an image with a script"},
		{"<foreignobject", verdict.OddAttachment, "is an image that holds a web page"},
	},
	"pdf": {
		{"/launch", verdict.OddAttachment, "starts a program when it is opened"},
		{"/javascript", verdict.OddAttachment, "holds a script"},
		{"/embeddedfile", verdict.OddAttachment, "holds other files"},
	},
}

// maxSign is above the length of each sign.
const maxSign = 64

// acts looks for what acts by itself in a text, in one pass.
func (x *examination) acts(f *file, k kind, r io.Reader) {
	found := make(map[string]bool)
	buffer := make([]byte, 0, 32<<10+maxSign)
	for {
		keep := buffer[max(0, len(buffer)-maxSign):]
		buffer = append(buffer[:0], keep...)
		n, err := io.ReadFull(r, buffer[len(buffer):cap(buffer)])
		text := bytes.ToLower(dropNUL(buffer[:len(buffer)+n]))
		if len(text) <= cap(buffer) {
			buffer = append(buffer[:0], text...)
		}
		for _, s := range signs[k] {
			if !found[s.words] && bytes.Contains(text, []byte(s.octets)) {
				found[s.words] = true
				x.note(s.name, f, "%s", s.words)
			}
		}
		if err != nil {
			return
		}
	}
}
