package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailfile"
)

// The files of people are read and written here, by the caller's process: the
// server, which may be in a sandbox, sees a stream of messages.

type mailboxImportCmd struct {
	accountArg
	asJSON
	Path       string `arg:"" help:"An mbox file, a Maildir (Dovecot's with its POP3 unique-ids), or a folder of .eml files."`
	Folder     string `help:"Put everything into this mailbox."`
	UIDLFormat string `name:"uidl-format" help:"Dovecot's pop3_uidl_format, when it was set." placeholder:"FORMAT"`
}

// Input implements asker: the messages, as they are asked for.
func (c *mailboxImportCmd) Input(p *process) (io.ReadCloser, error) {
	src, err := mailfile.Open(c.Path, mailfile.Options{UIDLFormat: c.UIDLFormat})
	if errors.Is(err, mailfile.ErrFormat) {
		return nil, fmt.Errorf("read mail in %s: %w", c.Path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open mail: %w", err)
	}
	r, w := io.Pipe()
	i := &importInput{PipeReader: r, src: src, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		var err error
		i.missing, err = feedImport(src, w, p.stderr, c.Folder)
		w.CloseWithError(err) // nil is the stream's end, also when messages are missing: those before them must arrive
	}()
	return i, nil
}

// importInput ends the reading goroutine when the command is done.
type importInput struct {
	*io.PipeReader
	src     *mailfile.Source
	done    chan struct{}
	missing int // messages that could not be read; valid when done is closed
}

// Close implements io.Closer. Its error says how many messages are missing.
func (i *importInput) Close() error {
	err := i.PipeReader.Close()
	<-i.done
	if i.missing > 0 {
		err = errors.Join(err, fmt.Errorf("%d messages could not be read and were left out; all others are imported", i.missing))
	}
	return errors.Join(err, i.src.Close())
}

// feedImport writes the messages of src as a stream; the unreadable are named, left
// out and counted.
func feedImport(src *mailfile.Source, w io.Writer, log io.Writer, folder string) (missing int, err error) {
	out := admin.NewStreamWriter(w)
	for m, err := range src.Messages() {
		if err == nil && folder == "" {
			if _, wrong := mailbox.CheckName(m.Folder); wrong != nil {
				err = fmt.Errorf("%w; name a mailbox by --folder", wrong)
			}
		}
		if err != nil {
			missing++
			fmt.Fprintf(log, "%s; left out\n", printable(fmt.Sprintf("%s %s: %v", m.Folder, m.Name, err)))
			continue
		}
		f := admin.Facts{Mailbox: m.Folder, UniqueID: m.UniqueID, Flags: uint32(m.Flags), Received: m.Received, Source: m.Name}
		if err := out.Write(f, m.Body); err != nil {
			return missing, err
		}
	}
	return missing, nil
}

// printable makes text of files and peers harmless for a terminal: what does not
// print is written as in Go's quoted strings.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return s
	}
	return strings.ReplaceAll(strings.Trim(strconv.Quote(s), `"`), `\"`, `"`)
}

// Work implements desk.
func (c *mailboxImportCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).MailboxImport(ctx, c.Address, c.Folder)
}

type mailboxExportCmd struct {
	accountArg
	File   string `arg:"" help:"The mbox file (mboxrd) to write; it must not exist. - is the standard output."`
	Folder string `help:"Only this mailbox."`
}

// Output implements printer: what the command streams becomes an mbox file.
func (c *mailboxExportCmd) Output(p *process) (io.Writer, func(error) error, error) {
	out, finish := p.stdout, func() error { return nil }
	if c.File != "-" {
		f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("make file: %w; name one that does not exist", err)
		}
		out, finish = f, func() error { return errors.Join(f.Sync(), f.Close()) }
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := writeMbox(out, admin.NewStreamReader(r))
		r.CloseWithError(err)
		written <- err
	}()
	return w, func(err error) error {
		w.CloseWithError(err) // nil is the end of the stream
		if werr := <-written; err == nil {
			err = werr
		}
		return errors.Join(err, finish())
	}, nil
}

// writeMbox writes a stream as mboxrd: LF lines, and ">" before lines that begin
// with any number of ">" and "From ".
func writeMbox(w io.Writer, in *admin.StreamReader) error {
	for {
		f, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "From MAILER-DAEMON %s\n", f.Received.UTC().Format("Mon Jan _2 15:04:05 2006")); err != nil {
			return fmt.Errorf("write mbox: %w", err)
		}
		q := &mboxLines{w: w}
		if _, err := io.Copy(q, in); err != nil {
			return fmt.Errorf("write mbox: %w", err)
		}
		if err := q.end(); err != nil {
			return fmt.Errorf("write mbox: %w", err)
		}
	}
}

// mboxLines writes lines with LF ends, quoting those that look like a separator.
type mboxLines struct {
	w    io.Writer
	line []byte // the beginning of a line whose end has not come
	long bool   // the line's beginning is written already
}

// maxHeldLine is how much of an unfinished line is held.
const maxHeldLine = 4096

// Write implements io.Writer.
func (m *mboxLines) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		part := b
		if i >= 0 {
			part = b[:i+1]
		}
		m.line, b = append(m.line, part...), b[len(part):]
		if i >= 0 || len(m.line) > maxHeldLine {
			if err := m.flush(i >= 0); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// flush writes what is held; whole says that the line ends.
func (m *mboxLines) flush(whole bool) error {
	s := string(m.line)
	keep := ""
	if whole {
		s = strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r") + "\n"
	} else if strings.HasSuffix(s, "\r") {
		s, keep = s[:len(s)-1], "\r"
	}
	if !m.long && strings.HasPrefix(strings.TrimLeft(s, ">"), "From ") {
		s = ">" + s
	}
	m.long, m.line = !whole, append(m.line[:0], keep...)
	_, err := io.WriteString(m.w, s)
	return err
}

// end ends the message with an empty line.
func (m *mboxLines) end() error {
	if len(m.line) > 0 || m.long {
		if err := m.flush(true); err != nil {
			return err
		}
	}
	_, err := io.WriteString(m.w, "\n")
	return err
}

// Work implements desk.
func (c *mailboxExportCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.MailboxExport(ctx, c.Address, c.Folder)
}
