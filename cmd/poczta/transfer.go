package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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

// streamBuffer is how many octets of a stream travel at once.
const streamBuffer = 64 << 10

type mailboxImportCmd struct {
	accountArg
	asJSON
	Path       string `arg:"" help:"An mbox file, a Maildir (Dovecot's with its POP3 unique-ids), or an .eml file or a folder of them."`
	Folder     string `help:"Put everything into this mailbox, instead of those that the files name." placeholder:"MAILBOX"`
	UIDLFormat string `name:"uidl-format" help:"Dovecot's pop3_uidl_format, when it was set." placeholder:"FORMAT"`
}

// Help implements kong's HelpProvider.
func (c *mailboxImportCmd) Help() string {
	return `Progress goes to the standard error: a bar on a terminal, else a line now and then.
Ctrl-C stops it in order; the same command again goes on, and nothing comes twice.
Flags (seen, answered, flagged, draft) and unique-ids are kept, so that POP3 programs
do not fetch everything again.

  poczta mailbox import ala@example.org /home/ala/Maildir
  poczta mailbox import ala@example.org /var/mail/ala
  poczta mailbox import ala@example.org old.mbox --folder Archive`
}

func (c *mailboxImportCmd) transfers() {}
func (c *mailboxImportCmd) finishes()  {}

// Input implements asker: the messages, as they are asked for.
func (c *mailboxImportCmd) Input(ctx context.Context, p *process) (io.ReadCloser, error) {
	if c.Folder != "" {
		if _, err := mailbox.CheckName(c.Folder); err != nil {
			return nil, fmt.Errorf("%w: --folder: %w", admin.ErrUsage, err)
		}
	}
	src, err := mailfile.Open(c.Path, mailfile.Options{UIDLFormat: c.UIDLFormat})
	if errors.Is(err, mailfile.ErrFormat) {
		return nil, fmt.Errorf("read mail in %s: %w", c.Path, mailfile.ErrFormat)
	}
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	i := &importInput{PipeReader: r, src: src, done: make(chan struct{}), log: newProgress(p.stderr, src.Total()), folder: c.Folder}
	go func() {
		defer close(i.done)
		out := bufio.NewWriterSize(w, streamBuffer)
		err := i.feed(ctx, admin.NewStreamWriter(out))
		w.CloseWithError(errors.Join(err, out.Flush()))
	}()
	return i, nil
}

// importInput ends the reading goroutine when the command is done.
type importInput struct {
	*io.PipeReader
	src    *mailfile.Source
	folder string
	done   chan struct{}
	log    *progress

	// Valid when done is closed.
	missing int  // messages that could not be read
	stopped bool // by an interrupt
}

// Close implements io.Closer. Its error says what the import is short of.
func (i *importInput) Close() error {
	err := i.PipeReader.Close()
	<-i.done
	i.log.end()
	if i.stopped {
		err = errors.Join(err, fmt.Errorf("the import was stopped after %d messages, %s of %s; what was read is stored: run the same command again to go on, nothing comes twice",
			i.log.messages, mebi(i.src.Done()), mebi(i.src.Total())))
	}
	if i.missing > 0 {
		err = errors.Join(err, fmt.Errorf("%d messages could not be read and were left out; all others are imported", i.missing))
	}
	return errors.Join(err, i.src.Close())
}

// feed writes the messages as a stream, until an interrupt; the unreadable are
// named, left out and counted, so that those before and behind them arrive.
func (i *importInput) feed(ctx context.Context, out *admin.StreamWriter) error {
	for m, err := range i.src.Messages() {
		if ctx.Err() != nil {
			i.stopped = true
			break
		}
		if err == nil && i.folder == "" {
			if _, wrong := mailbox.CheckName(m.Folder); wrong != nil {
				err = fmt.Errorf("%w; name a mailbox by --folder", wrong)
			}
		}
		if err != nil {
			i.missing++
			i.log.say("%s; left out", printable(fmt.Sprintf("%s %s: %v", m.Folder, m.Name, err)))
			continue
		}
		f := admin.Facts{Mailbox: m.Folder, UniqueID: m.UniqueID, Flags: uint32(m.Flags), Received: m.Received, Source: m.Name}
		if err := out.Write(f, m.Body); err != nil {
			return err
		}
		i.log.at(i.src.Done())
	}
	i.log.end() // the command prints next
	return out.End()
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
