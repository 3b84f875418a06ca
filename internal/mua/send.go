package mua

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	stdmime "mime"
	"os"
	"path/filepath"
	"strings"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// maxLetter bounds a text on the input, in octets.
const maxLetter = 16 << 20

// Writing is a letter to be.
type Writing struct {
	Account            string // whose; "" is the only one, or that of the letter answered
	To, Cc, Bcc        []string
	Subject            string
	Text               *string // nil: the input
	Files              []string
	Reply, Forward     string // the number of a letter
	Saved              string // the number of a letter in Drafts that is sent; what else is given changes it
	All, Attached      bool   // reply to all; forward as an attachment
	At                 time.Time
	Wait               time.Duration
	Receipt, Unchecked bool
	Draft              bool // keep it in Drafts instead
}

// Send writes a letter and puts it into the outbox, durably, or into Drafts. It is sent at once if
// the server can be reached, else as soon as it can.
func (d *Desk) Send(ctx context.Context, w Writing) error {
	if !w.At.IsZero() && w.At.Before(d.Mail.now()) {
		return fmt.Errorf("%w: %s is past; leave --at out to send at once", ErrUsage, w.At.Local().Format("2006-01-02 15:04"))
	}
	draft, release, err := d.draft(ctx, w)
	if err != nil {
		return err
	}
	defer release()
	if w.Draft {
		id, err := draft.NewID(d.Mail.now(), d.random())
		if err == nil {
			err = compose.Save(ctx, d.Mail.Store, &draft, d.Mail.now(), id)
		}
		if err != nil {
			return err
		}
		d.say("Saved in %s as letter %d; poczta mail send --saved %d sends it.", store.Drafts, draft.Letter, draft.Letter)
		return nil
	}
	for _, p := range draft.Check() {
		if p.Fatal {
			return fmt.Errorf("%s; nothing was sent", strings.TrimSuffix(p.Text, "."))
		}
		fmt.Fprintln(d.Err, printable(p.Text))
	}
	id, err := draft.NewID(d.Mail.now(), d.random())
	if err != nil {
		return err
	}
	r, pw := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		pw.CloseWithError(compose.Write(pw, &draft, d.Mail.now(), id))
	}()
	l := outbox.Letter{Account: draft.Account, Recipients: draft.Recipients(), Message: r, Draft: draft.Letter, SendAt: w.At, Wait: w.Wait, Unchecked: w.Unchecked}
	if w.Receipt {
		l.Notify = envelope.NotifySuccess | envelope.NotifyFailure | envelope.NotifyDelay
	}
	out, err := d.Mail.Outbox.Put(ctx, l)
	r.CloseWithError(io.ErrClosedPipe) // a writer that nobody read to its end
	<-written
	if err != nil {
		return err
	}
	return d.sent(ctx, out)
}

// draft composes what is to be sent. release closes the letter that it is taken from.
func (d *Desk) draft(ctx context.Context, w Writing) (c compose.Draft, release func(), err error) {
	release = func() {}
	base, err := d.base(ctx, w)
	if err != nil {
		return c, release, err
	}
	if base != nil {
		release = func() { _ = base.Close() }
		defer func() {
			if err != nil {
				release()
			}
		}()
	}
	a, err := d.writer(ctx, w.Account, base)
	if err != nil {
		return c, release, err
	}
	switch {
	case w.Saved != "":
		c, err = compose.Read(a, base)
		if w.Account != "" {
			c.From = store.Address{Name: a.Name, Address: a.Address}
		}
	case w.Reply != "":
		c, err = compose.Reply(a, base, w.All, d.Language)
	case w.Forward != "":
		c, err = compose.Forward(a, base, w.Attached, d.Language)
	default:
		c = compose.New(a)
	}
	if err != nil {
		return c, release, err
	}
	for _, x := range []struct {
		to   *[]store.Address
		from []string
	}{{&c.To, w.To}, {&c.Cc, w.Cc}, {&c.Bcc, w.Bcc}} {
		good, bad := compose.ParseAddresses(strings.Join(x.from, ","))
		if len(bad) > 0 {
			return c, release, fmt.Errorf("%w: %q is not an address; write as in ala@example.org", ErrUsage, bad[0])
		}
		*x.to = append(*x.to, good...)
	}
	if w.Subject != "" {
		c.Subject = w.Subject
	}
	if c.Text, err = d.text(w, c.Text); err != nil {
		return c, release, err
	}
	for _, name := range w.Files {
		file, err := d.file(name)
		if err != nil {
			return c, release, err
		}
		c.Attachments = append(c.Attachments, file)
	}
	return c, release, nil
}

// text is what the person wrote, above what stood there. That of a letter in Drafts stays, unless
// there is another.
func (d *Desk) text(w Writing, below string) (text string, err error) {
	switch {
	case w.Text != nil:
		text = *w.Text
	case w.Saved != "":
		return below, nil
	default:
		if text, err = d.typed(); err != nil {
			return "", err
		}
	}
	if w.Saved != "" {
		below = ""
	}
	return strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n") + "\n" + below, nil
}

// typed reads the text on the input.
func (d *Desk) typed() (string, error) {
	text, err := io.ReadAll(io.LimitReader(d.In, maxLetter+1))
	if err == nil && len(text) > maxLetter {
		err = fmt.Errorf("it has more than %s; attach it as a file", size(maxLetter))
	}
	if err != nil {
		return "", fmt.Errorf("read the letter's text: %w", err)
	}
	return strings.ToValidUTF8(string(text), "\uFFFD"), nil
}

// base opens the letter that is answered, passed on, or sent from Drafts; nil for none.
func (d *Desk) base(ctx context.Context, w Writing) (*store.Letter, error) {
	word := w.Reply + w.Forward + w.Saved
	if word == "" {
		return nil, nil
	}
	if word != w.Reply && word != w.Forward && word != w.Saved {
		return nil, fmt.Errorf("%w: answer a letter, forward one, or send a draft", ErrUsage)
	}
	list, err := ids([]string{word})
	if err != nil {
		return nil, err
	}
	if err := d.whole(ctx, list[0]); err != nil {
		return nil, err
	}
	l, err := d.Mail.Store.Letter(ctx, list[0])
	if err != nil {
		return nil, fmt.Errorf("letter %s: %w", word, err)
	}
	if w.Saved != "" && (l.Folder != store.Drafts || !l.Removed.IsZero()) {
		return nil, errors.Join(fmt.Errorf("%w: letter %s is no draft: it lies in %s; poczta mail list --folder %s shows drafts", ErrUsage, word, l.Folder, store.Drafts), l.Close())
	}
	if w.Saved != "" {
		if typed, err := page.Typed(ctx, d.Mail.Store, l.ID); err != nil || typed {
			return nil, errors.Join(err, fmt.Errorf("letter %s has newer text on the page, which is not in it yet; send it there: poczta mail open", word), l.Close())
		}
	}
	return l, nil
}

// writer is the account that a letter is from.
func (d *Desk) writer(ctx context.Context, name string, base *store.Letter) (profile.Account, error) {
	if name == "" && base != nil {
		if a, err := d.Mail.account(ctx, base.Account); err == nil && !a.Archive {
			return a, nil
		}
	}
	a, err := d.served(ctx, name)
	if u, ok := errors.AsType[*profile.Unclear](err); ok {
		u.By = "--from"
	}
	if err != nil {
		return a, err
	}
	if name != "" && a.Owns(name) && !strings.EqualFold(a.Address, name) {
		a.Address = name // one of its further addresses
	}
	return a, nil
}

// file is an attachment.
func (d *Desk) file(name string) (compose.Attachment, error) {
	path := d.path(name)
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	if err != nil {
		return compose.Attachment{}, fmt.Errorf("attach file: %w", err)
	}
	kind, _, _ := strings.Cut(stdmime.TypeByExtension(filepath.Ext(path)), ";")
	return compose.Attachment{Name: filepath.Base(path), Type: kind, Octets: info.Size(), Open: func() (io.ReadCloser, error) { return os.Open(path) }}, nil
}

func (d *Desk) random() io.Reader {
	if d.Mail.conf.Rand != nil {
		return d.Mail.conf.Rand
	}
	return rand.Reader
}

// sent sends what was put into the outbox, unless Run does so or its time has not come, and says
// what became of it.
func (d *Desk) sent(ctx context.Context, id outbox.ID) error {
	item, err := d.Mail.Outbox.Item(ctx, id)
	if err != nil {
		return err
	}
	at := item.SendAt
	if item.Next.After(at) {
		at = item.Next
	}
	if at.After(d.Mail.now()) {
		d.say("Letter %d waits in the outbox until %s; poczta mail sync sends it from then on, poczta mail outbox undo %d keeps it.", id, at.Local().Format("2006-01-02 15:04:05"), id)
		return nil
	}
	if d.Mail.running.Load() {
		d.Mail.Outbox.Wake()
		d.say("Letter %d is in the outbox and is being sent; poczta mail outbox shows it while it is there.", id)
		return nil
	}
	flushed := d.Mail.Outbox.Flush(ctx)
	if item, err = d.Mail.Outbox.Item(context.WithoutCancel(ctx), id); err != nil {
		return err
	}
	switch item.State {
	case outbox.Sent:
		d.say("Sent.")
		return nil
	case outbox.Refused, outbox.Partly:
		for _, r := range item.Recipients {
			if r.State == outbox.Refused {
				d.say("%s was refused. %s", r.Address, r.Words(d.Language))
			}
		}
		return fmt.Errorf("letter %d was not taken for everybody", id)
	case outbox.Perhaps:
		return fmt.Errorf("letter %d was perhaps sent: the line broke before the server's reply came. Ask those who should have it, then say: poczta mail outbox decide %d --done, or --again", id, id)
	}
	if flushed != nil && item.Reason == "" {
		item.Reason = flushed.Error()
	}
	d.say("Letter %d waits in the outbox (%s); poczta mail sync tries again.", id, item.Reason)
	return nil
}
