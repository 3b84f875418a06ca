package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/mailfile"
)

type mailboxExportCmd struct {
	accountArg
	File   string `arg:"" name:"path" help:"The file or folder to write; it must not exist. - is the standard output (mbox only)."`
	Format string `help:"mbox, maildir or eml." enum:"mbox,maildir,eml" default:"mbox"`
	Folder string `help:"Only this mailbox." placeholder:"MAILBOX"`
}

// Help implements kong's HelpProvider.
func (c *mailboxExportCmd) Help() string {
	return `Formats:
  mbox     one file (mboxrd); flags and unique-ids in the fields Status, X-Status and X-UIDL;
           mailboxes are not told apart, so export each with --folder when there are several
  maildir  a Maildir as Dovecot keeps it, with mailboxes, flags, times and unique-ids;
           poczta mailbox import restores all of them
  eml      a folder with one file for each message, octets as they are; no flags, no unique-ids

Messages that are damaged are named and left out; all others are written.`
}

func (c *mailboxExportCmd) transfers() {}

// Output implements printer: what the command streams becomes files.
func (c *mailboxExportCmd) Output(p *process) (io.Writer, func(error) error, error) {
	files, discard, err := c.create(p)
	if err != nil {
		return nil, nil, err
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := writeFiles(files, admin.NewStreamReader(r))
		r.CloseWithError(err)
		written <- err
	}()
	return w, func(err error) error {
		w.CloseWithError(err)
		werr := errors.Join(<-written, files.Close())
		if werr != nil { // the stream has an end of its own: a command may fail because of damaged messages, and all others are written
			discard()
		}
		if err == nil {
			err = werr
		}
		return err
	}, nil
}

// create makes what the messages are written into. discard takes away what is not whole.
func (c *mailboxExportCmd) create(p *process) (w mailfile.Writer, discard func(), err error) {
	if c.File == "-" {
		if c.Format != "mbox" {
			return nil, nil, fmt.Errorf("%w: only --format mbox can be written to the standard output", admin.ErrUsage)
		}
		return mailfile.NewMboxWriter(p.stdout), func() {}, nil
	}
	remains := func() {
		fmt.Fprintf(p.stderr, "poczta: %s holds only a part of the mail; remove it before the next try\n", c.File)
	}
	switch c.Format {
	case "maildir":
		w, err = mailfile.CreateMaildir(c.File)
		return w, remains, err
	case "eml":
		w, err = mailfile.CreateEML(c.File)
		return w, remains, err
	}
	f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, nil, fmt.Errorf("make file: %w; name one that does not exist", err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make file: %w", err)
	}
	return &mboxFile{Writer: mailfile.NewMboxWriter(f), f: f}, func() { _ = os.Remove(c.File) }, nil
}

// mboxFile is an mbox in a file of its own.
type mboxFile struct {
	mailfile.Writer
	f *os.File
}

// Close makes the file durable.
func (m *mboxFile) Close() error {
	return errors.Join(m.Writer.Close(), m.f.Sync(), m.f.Close())
}

// writeFiles writes the messages of a stream.
func writeFiles(w mailfile.Writer, in *admin.StreamReader) error {
	for {
		f, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m := mailfile.Message{Folder: f.Mailbox, UniqueID: f.UniqueID, Flags: mailfile.Flags(f.Flags), Received: f.Received}
		if err := w.Add(m, in); err != nil {
			return err
		}
	}
}

// Work implements desk.
func (c *mailboxExportCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.MailboxExport(ctx, c.Address, c.Folder)
}
