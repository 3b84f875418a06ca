package mua

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/store/extract"
)

// maxText bounds what Read shows of a letter's text, in octets.
const maxText = 4 << 20

// Reading is how Read shows a letter.
type Reading struct {
	Raw  bool   // its octets
	Peek bool   // it stays unread
	Save string // a folder for its attachments
}

// LetterText is a letter as Read shows it.
type LetterText struct {
	LetterRow
	Headers []string   `json:"headers"` // of the header section, decoded, NAME: VALUE
	Text    string     `json:"text"`
	Files   []FileText `json:"files"`
	// Fates are what became of it, where it was sent from here.
	Fates []outbox.Fate `json:"fates,omitempty"`
}

// FileText is an attachment.
type FileText struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Octets int64  `json:"octets"` // encoded
}

// Read shows a letter and marks it as read. One of which only the header section is here is
// fetched first.
func (d *Desk) Read(ctx context.Context, word string, r Reading) error {
	list, err := ids([]string{word})
	if err != nil {
		return err
	}
	id := list[0]
	if err := d.whole(ctx, id); err != nil {
		return err
	}
	if r.Raw {
		err = d.Mail.Store.Raw(ctx, id, d.Out)
	} else {
		err = d.show(ctx, id, r)
	}
	if err != nil || r.Peek {
		return err
	}
	if _, err := d.Mail.Store.SetFlags(ctx, list, mailbox.Seen, 0); err != nil && !errors.Is(err, store.ErrNotFound) { // one in retention has no flags to set
		return err
	}
	return nil
}

// whole fetches the rest of a letter. What can't be fetched is said, and the letter is shown as it is.
func (d *Desk) whole(ctx context.Context, id store.LetterID) error {
	s, err := d.Mail.Store.Summary(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return d.noLetter(id)
	}
	if err != nil {
		return fmt.Errorf("letter %d: %w", id, err)
	}
	if !s.Partial {
		return nil
	}
	a, err := d.Mail.account(ctx, s.Account)
	if err == nil {
		err = d.Mail.Fetcher.Complete(ctx, a, id)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(d.Err, printable(fmt.Sprintf("Only the letter's header section is here: %v", err)))
		return nil
	}
	return err
}

func (d *Desk) show(ctx context.Context, id store.LetterID, r Reading) error {
	l, err := d.Mail.Store.Letter(ctx, id)
	if err != nil {
		return fmt.Errorf("letter %d: %w", id, err)
	}
	defer l.Close()
	name, err := d.names(ctx)
	if err != nil {
		return err
	}
	t := LetterText{LetterRow: row(l.Summary, name(l.Account)), Headers: headers(l.Root), Files: []FileText{}}
	if t.Text, err = readable(l); err != nil {
		return err
	}
	if t.Fates, err = d.fates(ctx, l.Summary); err != nil {
		return err
	}
	for p := range l.Root.All() {
		if extract.Attachment(p) {
			t.Files = append(t.Files, FileText{fileName(p, len(t.Files)), p.Type + "/" + p.Subtype, p.End - p.Body})
		}
	}
	if d.JSON {
		err = d.encode(t)
	} else {
		d.print(l.Summary, &t)
	}
	if err != nil || r.Save == "" {
		return err
	}
	return d.save(l, r.Save)
}

func (d *Desk) print(s store.Summary, t *LetterText) {
	for _, h := range t.Headers {
		key, _, _ := strings.Cut(h, ":")
		switch strings.ToLower(key) {
		case "from", "to", "cc", "reply-to", "date", "subject":
			fmt.Fprintln(d.Out, flat(h))
		}
	}
	fmt.Fprintf(d.Out, "Folder: %s, %s\n", flat(s.Folder), t.Account)
	for i, f := range t.Files {
		fmt.Fprintf(d.Out, "File %d: %s (%s, %s)\n", i+1, flat(f.Name), flat(f.Type), size(f.Octets))
	}
	for _, f := range t.Fates {
		for _, line := range d.fateText(f) {
			fmt.Fprintln(d.Out, flat(line))
		}
	}
	fmt.Fprintf(d.Out, "\n%s\n", printable(strings.TrimRight(strings.ReplaceAll(t.Text, "\r\n", "\n"), "\n")))
}

// headers are the fields of a header section, unfolded and decoded.
func headers(p *mime.Part) []string {
	out := unfold(p.Header)
	for i, h := range out {
		key, value, _ := strings.Cut(h, ":")
		out[i] = key + ": " + strings.TrimSpace(mime.DecodeWords(value))
	}
	return out
}

// readable is a letter's text: of alternatives the plain one, else HTML without its tags.
func readable(l *store.Letter) (string, error) {
	var b strings.Builder
	for _, p := range texts(l.Root, nil) {
		text, err := io.ReadAll(io.LimitReader(p.Text(l), maxText))
		if err != nil {
			return "", fmt.Errorf("read letter: %w", err)
		}
		if p.Subtype == "html" {
			whole := append([]byte("Content-Type: text/html; charset=utf-8\r\n\r\n"), text...)
			c, err := content.Read(bytes.NewReader(whole), int64(len(whole)), content.Facts{}, content.Limits{Text: maxText, Raw: maxText})
			if err != nil {
				return "", fmt.Errorf("read letter: %w", err)
			}
			text = []byte(c.Text)
		}
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		b.Write(text)
		if b.Len() > maxText {
			break
		}
	}
	return b.String(), nil
}

// texts are the parts that a person reads.
func texts(p *mime.Part, out []*mime.Part) []*mime.Part {
	switch {
	case p.Multipart() && p.Subtype == "alternative":
		var best *mime.Part
		for _, c := range p.Children {
			if below := texts(c, nil); len(below) > 0 && (best == nil || best.Subtype == "html" && below[0].Subtype == "plain") {
				best = below[0]
			}
		}
		if best != nil {
			out = append(out, best)
		}
	case len(p.Children) > 0 && !p.Leaf():
		for _, c := range p.Children {
			out = texts(c, out)
		}
	case p.Type == "text" && !extract.Attachment(p):
		out = append(out, p)
	}
	return out
}

// save writes the attachments into a folder; no file is replaced.
func (d *Desk) save(l *store.Letter, folder string) error {
	folder = d.path(folder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	defer root.Close()
	i, to := 0, &saver{root: root, tried: map[string]int{}}
	for p := range l.Root.All() {
		if !extract.Attachment(p) {
			continue
		}
		name, err := to.write(fileName(p, i), p.Open(l))
		if err != nil {
			return fmt.Errorf("save file %d: %w; those before it are in %s", i+1, err, folder)
		}
		i++
		fmt.Fprintln(d.Err, printable("Saved "+filepath.Join(folder, name)))
	}
	if i == 0 {
		fmt.Fprintln(d.Err, "The letter has no files.")
	}
	return nil
}
