package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"poczta.example/poczta/internal/mua"
)

// muaSendCmd writes a letter.
type muaSendCmd struct {
	To        []string      `arg:"" optional:"" help:"Who gets it, as in ola@example.org or 'Ola <ola@example.org>'."`
	Cc        []string      `help:"Who gets a copy; may be repeated." sep:"none"`
	Bcc       []string      `help:"Who gets a copy that the others do not see; may be repeated." sep:"none"`
	From      string        `help:"The account, or another address of yours."`
	Subject   string        `short:"s"`
	Text      *string       `help:"The text; without it, it is read from the standard input."`
	Attach    []string      `help:"Attach a file; may be repeated." short:"a" sep:"none" placeholder:"FILE"`
	Reply     string        `help:"Answer a letter, by its number." placeholder:"LETTER"`
	All       bool          `help:"Answer all who got it."`
	Forward   string        `help:"Pass a letter on, by its number." placeholder:"LETTER"`
	Attached  bool          `help:"Pass it on as an attachment, as it is."`
	Saved     string        `help:"Send a letter that lies in Drafts, by its number; what else you give changes or adds to it." placeholder:"LETTER"`
	At        string        `help:"Not before then: 2h, 2026-11-24, or '2026-11-24 08:00'." placeholder:"TIME"`
	Wait      time.Duration `help:"Let it wait so long at least, so that it can be undone."`
	Receipt   bool          `help:"Ask the servers to report when it was delivered."`
	Unchecked bool          `help:"Send also to domains that, by DNS, take no mail."`
	Draft     bool          `help:"Keep it in Drafts instead."`
}

// Help implements kong's HelpProvider.
func (c *muaSendCmd) Help() string {
	return `The letter is in the outbox, durably, before anything is sent. Without a network it waits there;
poczta mail sync sends it, and poczta mail outbox shows it.

  poczta mail send ola@example.org -s "Lunch?" --text "At one, as ever?"
  git log -1 --stat | poczta mail send ola@example.org -s "What is new"
  poczta mail send --reply 17 --text "Yes." -a menu.pdf
  poczta mail send --saved 18`
}

// Input implements writer.
func (c *muaSendCmd) Input(p *process) io.Reader {
	if c.Text != nil || c.Saved != "" {
		return eof{}
	}
	if f, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintln(p.stderr, "Write the letter; a line with Ctrl-D (Windows: Ctrl-Z, Enter) ends it.")
	}
	return p.stdin
}

func (c *muaSendCmd) Do(ctx context.Context, d *mua.Desk) error {
	w := mua.Writing{Account: c.From, To: c.To, Cc: c.Cc, Bcc: c.Bcc, Subject: c.Subject, Text: c.Text, Files: c.Attach, Reply: c.Reply, All: c.All,
		Forward: c.Forward, Saved: c.Saved, Attached: c.Attached, Wait: c.Wait, Receipt: c.Receipt, Unchecked: c.Unchecked, Draft: c.Draft}
	if c.At != "" {
		at, err := later(c.At, time.Now())
		if err != nil {
			return err
		}
		w.At = at
	}
	return d.Send(ctx, w)
}

// later reads a time to come.
func later(s string, now time.Time) (time.Time, error) {
	if wait, err := time.ParseDuration(s); err == nil && wait > 0 {
		return now.Add(wait), nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02", time.RFC3339} {
		at, err := time.ParseInLocation(layout, s, time.Local)
		switch {
		case err != nil:
		case at.Before(now):
			return now, fmt.Errorf("%w: --at %s is past; leave it out to send at once", mua.ErrUsage, s)
		default:
			return at, nil
		}
	}
	return now, fmt.Errorf("%w: --at %q; write as in 2h, 2026-11-24 or '2026-11-24 08:00'", mua.ErrUsage, s)
}

// muaOutboxCmd is the letters that wait.
type muaOutboxCmd struct {
	List   muaOutboxListCmd   `cmd:"" default:"1" help:"List letters that wait, were refused, or were perhaps sent."`
	Undo   muaOutboxUndoCmd   `cmd:"" help:"Do not send a letter; it becomes a draft again."`
	Retry  muaOutboxRetryCmd  `cmd:"" help:"Try a letter again now."`
	Decide muaOutboxDecideCmd `cmd:"" help:"Say what becomes of a letter that was perhaps sent."`
}

type muaOutboxListCmd struct{ asJSON }

func (c *muaOutboxListCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	return d.Outgoing(ctx)
}

type outgoing struct {
	ID int64 `arg:"" help:"Its number in poczta mail outbox."`
}

type muaOutboxUndoCmd struct{ outgoing }

func (c *muaOutboxUndoCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.OutgoingUndo(ctx, c.ID)
}

type muaOutboxRetryCmd struct{ outgoing }

func (c *muaOutboxRetryCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.OutgoingRetry(ctx, c.ID)
}

type muaOutboxDecideCmd struct {
	outgoing
	Done  bool `help:"It has arrived, or need not." xor:"decision" required:""`
	Again bool `help:"Send it again, though somebody may get it twice." xor:"decision" required:""`
}

func (c *muaOutboxDecideCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.OutgoingDecide(ctx, c.ID, c.Again)
}
