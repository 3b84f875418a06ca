package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/mailfile"
)

type spamCmd struct {
	Test     spamTestCmd     `cmd:"" help:"Judge a message in a file as if it came in now; nothing is delivered or remembered."`
	Train    spamTrainCmd    `cmd:"" help:"Teach the classifier with mail that is known to be spam, or wanted."`
	Stats    spamStatsCmd    `cmd:"" help:"Tell what the classifier has learned."`
	Allow    spamAllowCmd    `cmd:"" help:"Let senders in whatever the score, when it is proven that it is them."`
	Block    spamBlockCmd    `cmd:"" help:"Keep senders out."`
	Lists    spamListsCmd    `cmd:"" help:"List whom allow and block have named."`
	Unlist   spamUnlistCmd   `cmd:"" help:"Undo allow and block."`
	Trap     spamTrapCmd     `cmd:"" help:"Addresses that nobody was ever given: whoever writes to them sends spam."`
	Settings spamSettingsCmd `cmd:"" help:"What an account wishes of the filters."`
}

// ofAccount is the flag of commands about the server or one account.
type ofAccount struct {
	Account string `help:"Only for this account, instead of the whole server." placeholder:"ADDRESS"`
}

type spamTestCmd struct {
	File     string `arg:"" help:"A message as in an .eml file; - is the standard input."`
	Peer     string `help:"Address of the host that delivers it; without it nothing is said of the host." placeholder:"IP"`
	Helo     string `help:"Name that the host greets with." placeholder:"NAME"`
	From     string `help:"Reverse-path (MAIL FROM); <> is the null one. Without it, what Return-Path in the file says." placeholder:"ADDRESS"`
	To       string `help:"Recipient, whose lists and classifier count too." placeholder:"ADDRESS"`
	Offline  bool   `help:"Ask neither DNS nor other filters."`
	Outgoing bool   `help:"Judge it as what one of our own people sends, instead of as what comes in."`
	Account  string `help:"Who sends it, with --outgoing: their conduct counts then." placeholder:"ADDRESS"`
	asJSON
}

// Help implements kong's HelpProvider.
func (c *spamTestCmd) Help() string {
	return `Prints what would become of the message, and each piece of evidence with its points.
Give --peer, --helo and --from as the log or Received has them: SPF, blocklists and
reputation are about the host. What other filters are told, they may remember.

  poczta spam test letter.eml --peer 192.0.2.7 --helo mx.example.net --from ola@example.net --to ala@example.org
  poczta spam test letter.eml --outgoing --account ala@example.org --to ola@example.net`
}

// Input implements asker.
func (c *spamTestCmd) Input(_ context.Context, p *process) (io.ReadCloser, error) {
	return p.open(c.File)
}

func (c *spamTestCmd) transfers() {}

// Work implements desk.
func (c *spamTestCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).SpamTest(ctx, admin.TestOptions{Peer: c.Peer, Helo: c.Helo, From: c.From, To: c.To, Offline: c.Offline, Outgoing: c.Outgoing, Account: c.Account})
}

type spamTrainCmd struct {
	Spam  bool     `help:"The mail is spam." xor:"class" required:""`
	Ham   bool     `help:"The mail is wanted." xor:"class" required:""`
	Paths []string `arg:"" name:"path" help:"Mbox files, Maildirs, .eml files or folders of them."`
	ofAccount
	asJSON
}

// Help implements kong's HelpProvider.
func (c *spamTrainCmd) Help() string {
	return `Ctrl-C stops it in order; the same command again goes on, and nothing counts twice. The server
judges when it knows 50 messages of each kind, for an account's own taste 10.

  poczta spam train --spam /home/ala/Maildir/.Junk
  poczta spam train --ham archive.mbox`
}

func (c *spamTrainCmd) transfers() {}
func (c *spamTrainCmd) finishes()  {}

// Input implements asker: the messages of all paths, one after the other.
func (c *spamTrainCmd) Input(ctx context.Context, p *process) (io.ReadCloser, error) {
	t := &trainInput{done: make(chan struct{})}
	var total int64
	for _, path := range c.Paths {
		src, err := mailfile.Open(path, mailfile.Options{})
		if err != nil {
			t.closeAll()
			return nil, fmt.Errorf("read mail in %s: %w", path, err)
		}
		t.sources = append(t.sources, src)
		total += src.Total()
	}
	r, w := io.Pipe()
	t.PipeReader, t.log = r, newProgress(p.stderr, total)
	go func() {
		defer close(t.done)
		out := bufio.NewWriterSize(w, streamBuffer)
		err := t.feed(ctx, admin.NewStreamWriter(out))
		w.CloseWithError(errors.Join(err, out.Flush()))
	}()
	return t, nil
}

// trainInput ends the reading goroutine when the command is done.
type trainInput struct {
	*io.PipeReader
	sources []*mailfile.Source
	log     *progress
	done    chan struct{}

	// Valid when done is closed.
	missing int
	stopped bool
}

func (t *trainInput) closeAll() {
	for _, s := range t.sources {
		_ = s.Close() // only read from
	}
}

// Close implements io.Closer. Its error says what the training is short of.
func (t *trainInput) Close() error {
	err := t.PipeReader.Close()
	<-t.done
	t.log.end()
	t.closeAll()
	if t.stopped {
		err = errors.Join(err, fmt.Errorf("the training was stopped after %d messages; what was read is learned: run the same command again to go on, nothing counts twice", t.log.messages))
	}
	if t.missing > 0 {
		err = errors.Join(err, fmt.Errorf("%d messages could not be read and were left out; all others are learned", t.missing))
	}
	return err
}

// feed writes the messages as a stream, until an interrupt.
func (t *trainInput) feed(ctx context.Context, out *admin.StreamWriter) error {
	var before int64
	for _, src := range t.sources {
		for m, err := range src.Messages() {
			if ctx.Err() != nil {
				t.stopped = true
				return out.End()
			}
			if err != nil {
				t.missing++
				t.log.say("%s; left out", printable(fmt.Sprintf("%s %s: %v", m.Folder, m.Name, err)))
				continue
			}
			if err := out.Write(admin.Facts{Source: m.Name}, m.Body); err != nil {
				return err
			}
			t.log.at(before + src.Done())
		}
		before += src.Total()
	}
	t.log.end() // the command prints next
	return out.End()
}

// Work implements desk.
func (c *spamTrainCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).SpamTrain(ctx, c.Account, c.Spam)
}

type spamStatsCmd struct {
	ofAccount
	asJSON
}

func (c *spamStatsCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).SpamStats(ctx, c.Account)
}

type patterns struct {
	Patterns []string `arg:"" name:"pattern" help:"An address, a domain, .domain for all below it; for the whole server also a host's address or network."`
	ofAccount
}

type spamAllowCmd struct {
	patterns
	Note string `help:"Why, for lists."`
}

func (c *spamAllowCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.SpamList(ctx, c.Account, true, c.Note, c.Patterns)
}

type spamBlockCmd struct {
	patterns
	Note string `help:"Why, for lists."`
}

func (c *spamBlockCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.SpamList(ctx, c.Account, false, c.Note, c.Patterns)
}

type spamListsCmd struct {
	ofAccount
	asJSON
}

func (c *spamListsCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).SpamLists(ctx, c.Account)
}

type spamUnlistCmd struct{ patterns }

func (c *spamUnlistCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.SpamUnlist(ctx, c.Account, c.Patterns)
}

type spamTrapCmd struct {
	Addresses []string `arg:"" optional:"" name:"address" help:"Addresses of our domains that nobody uses, or patterns: *@example.org, sales*@example.org."`
	List      bool     `help:"List the spam traps."`
	Remove    bool     `help:"Make the addresses ordinary ones again."`
	asJSON
}

func (c *spamTrapCmd) Work(ctx context.Context, d *admin.Desk) error {
	if c.List == (len(c.Addresses) > 0) || c.List && c.Remove {
		return fmt.Errorf("%w: give either addresses or --list", admin.ErrUsage)
	}
	if c.List {
		return c.on(d).SpamTraps(ctx)
	}
	return d.SpamTrap(ctx, c.Addresses, c.Remove)
}

type spamSettingsCmd struct {
	accountArg
	Level    string `help:"How strict: lenient, normal, strict, off, or server for what the server does." enum:"lenient,normal,strict,off,server," default:""`
	Wish     string `help:"What becomes of spam: junk, quarantine, tag, deliver, or server." enum:"junk,quarantine,tag,deliver,server," default:""`
	Digest   string `help:"A daily digest of what was set apart: yes, no, or server." enum:"yes,no,server," default:""`
	Bulk     string `help:"Mailing lists may come into the INBOX: yes, no, or server." enum:"yes,no,server," default:""`
	Language string `help:"Of the digest: en, pl, or server for the account's." enum:"en,pl,server," default:""`
	asJSON
}

func (c *spamSettingsCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).SpamSettings(ctx, c.Address, admin.SettingsOptions{Level: c.Level, Wish: c.Wish, Digest: c.Digest, Bulk: c.Bulk, Language: c.Language})
}
