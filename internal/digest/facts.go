package digest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/verdict"
)

// What is read and shown of a message.
const (
	headerOctets  = 64 << 10
	previewOctets = 256 << 10
	previewText   = 4 << 10
	lineRunes     = 120 // of a field
	maxAttached   = 20  // attachments that are named
)

// facts are what is shown of a message. What strangers wrote in it is one line each, without
// control characters and those that turn or hide text.
type facts struct {
	From, Subject string
	When          string
	Why           string
	Score         string
	Operator      bool // only an operator may release it
	Text          string
	Cut           bool // Text is not all
	Attached      []string

	sender string // the address in From, "" when it can't be read
}

// factsOf makes facts of a header section.
func (d *Digest) factsOf(it quarantine.Item, header []byte, l *language) facts {
	f := facts{When: it.Noted.In(d.cfg.Location).Format("2006-01-02 15:04"), Why: l.why(it.Rule), Operator: dangerous(it.Rule)}
	if it.Score != 0 {
		f.Score = l.number(it.Score)
	}
	subject, _ := message.Get(header, "Subject")
	f.Subject = line(mime.DecodeWords(subject))
	if f.Subject == "" {
		f.Subject = l.NoSubject
	}
	from, _ := message.Get(header, "From")
	f.From = line(mime.DecodeWords(from))
	if all, err := message.ParseAddressList(from); err == nil && len(all) > 0 && message.Count(header, "From") == 1 {
		a := all[0]
		f.From = line(a.Address.Unicode())
		if name := line(a.Name); name != "" { // the address first: a name can claim to be one
			f.From += " (" + name + ")"
		}
		if len(all) == 1 {
			f.sender = a.Address.String()
		}
	}
	if f.From == "" {
		f.From = line(it.Sender)
	}
	return f
}

// read reads what the list shows of an item.
func (d *Digest) read(ctx context.Context, it quarantine.Item, l *language) (facts, error) {
	octets, err := d.octets(ctx, it, headerOctets)
	if err != nil {
		return facts{}, err
	}
	header, _, _ := message.SplitHeader(octets)
	return d.factsOf(it, header, l), nil
}

// preview reads what the page shows of an item: facts and the beginning of the text.
func (d *Digest) preview(ctx context.Context, it quarantine.Item, l *language) (facts, error) {
	octets, err := d.octets(ctx, it, previewOctets)
	if err != nil {
		return facts{}, err
	}
	header, _, _ := message.SplitHeader(octets)
	f := d.factsOf(it, header, l)
	c, err := content.Read(bytes.NewReader(octets), int64(len(octets)), content.Facts{}, content.Limits{Text: previewText + 4, Raw: previewOctets, Links: 1})
	if err != nil {
		return facts{}, err
	}
	f.Cut = len(c.Text) > previewText || int64(len(octets)) < it.Octets
	f.Text = strings.TrimSpace(clean(strings.ToValidUTF8(c.Text[:min(len(c.Text), previewText)], ""), true))
	for _, p := range c.Parts[:min(len(c.Parts), maxAttached)] {
		name := line(p.Filename)
		if name == "" {
			name = line(p.Type + "/" + p.Subtype)
		}
		f.Attached = append(f.Attached, name)
	}
	return f, nil
}

func (d *Digest) octets(ctx context.Context, it quarantine.Item, most int64) ([]byte, error) {
	in, err := d.cfg.Quarantine.Open(ctx, it)
	if err != nil {
		return nil, fmt.Errorf("open message %s: %w", it.ID, err)
	}
	defer in.Close()
	return io.ReadAll(io.LimitReader(in, most))
}

// line makes one line of what a stranger wrote, of at most lineRunes characters.
func line(s string) string {
	s = strings.Join(strings.Fields(clean(s, false)), " ")
	if utf8.RuneCountInString(s) > lineRunes {
		s = string([]rune(s)[:lineRunes-1]) + "…"
	}
	return s
}

// clean removes control and format characters: among these are those that change the direction
// of text, those that are invisible, and, unless lines are kept, line ends.
func clean(s string, lines bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' && lines:
			return r
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return ' '
		case unicode.Is(unicode.Cf, r), r == utf8.RuneError:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// dangerous reports a rule about viruses and attachments: people can't undo it.
func dangerous(rule string) bool {
	row, known := verdict.Rows[verdict.Name(rule)]
	return known && row.Group == verdict.Danger
}

// expiry is when tokens that are made now end, to the hour.
func (d *Digest) expiry() time.Time { return d.cfg.Now().Add(TokenLife).Truncate(time.Hour) }
