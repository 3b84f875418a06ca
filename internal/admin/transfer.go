package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/mailbox"
)

// Bounds of one batch of an import.
const (
	batchMessages = mailbox.MaxAppend
	batchOctets   = 8 << 20
)

// TransferRow is the outcome of an import or export.
type TransferRow struct {
	Messages   int   `json:"messages"`
	Octets     int64 `json:"octets"`
	Duplicates int   `json:"duplicates"`
}

// MailboxImport adds the messages of the input's stream to an account; with
// folder, all of them to that mailbox. What was imported before is left out, so
// it may be stopped and repeated.
func (d *Desk) MailboxImport(ctx context.Context, who, folder string) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	im := &importer{d: d, account: a}
	defer im.discard()
	in := NewStreamReader(d.In)
	for {
		f, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			if folder != "" {
				f.Mailbox = folder
			}
			err = im.add(ctx, f, in)
		}
		if err != nil {
			return fmt.Errorf("import mail of %s, after %d messages: %w; what is imported stays, and the import can be repeated", who, im.row.Messages, err)
		}
	}
	if err := im.flush(ctx); err != nil {
		return explain(err, "import mail of "+who)
	}
	if im.tooLarge > 0 {
		err = fmt.Errorf("%d messages are larger than the store takes and were left out; all others are imported", im.tooLarge)
	}
	return errors.Join(im.tell(), err)
}

// tell prints the outcome.
func (im *importer) tell() error {
	return table(im.d, []TransferRow{im.row}, "MESSAGES\tOCTETS\tDUPLICATES", func(r TransferRow) string {
		return fmt.Sprintf("%d\t%d\t%d", r.Messages, r.Octets, r.Duplicates)
	})
}

// importer gathers batches.
type importer struct {
	d       *Desk
	account account.Account
	batch   []mailbox.Import
	octets  int64
	row     TransferRow

	tooLarge int // messages that the store does not take
}

func (im *importer) add(ctx context.Context, f Facts, msg io.Reader) error {
	staged, err := im.d.Rooms.Body.Stage(ctx, 0)
	if errors.Is(err, body.ErrBudget) && len(im.batch) > 0 {
		if err := im.flush(ctx); err != nil {
			return err
		}
		staged, err = im.d.Rooms.Body.Stage(ctx, 0)
	}
	if err != nil {
		return err
	}
	look := &headerLook{}
	n, err := io.CopyBuffer(staged, io.TeeReader(msg, look), make([]byte, maxBlock))
	if errors.Is(err, body.ErrTooLarge) {
		staged.Discard()
		im.tooLarge++
		fmt.Fprintf(im.d.Err, "%q in %q is larger than the store takes; left out\n", f.Source, f.Mailbox)
		return nil // the next message begins behind what is left of this one
	}
	if err != nil {
		staged.Discard()
		return err
	}
	im.batch = append(im.batch, mailbox.Import{Mailbox: f.Mailbox, UniqueID: f.UniqueID, Source: f.Source, Flags: mailbox.Flags(f.Flags),
		Received: f.Received, UTF8: look.utf8, Staged: staged})
	if im.octets += n; len(im.batch) >= batchMessages || im.octets >= batchOctets {
		return im.flush(ctx)
	}
	return nil
}

func (im *importer) flush(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	done, err := im.d.Rooms.Mailboxes.Append(ctx, im.account.ID, im.account.Login, im.batch)
	if err != nil {
		return err
	}
	for _, x := range done {
		if x.Duplicate {
			im.row.Duplicates++
		} else {
			im.row.Messages++
			im.row.Octets += x.Entry.Octets
		}
	}
	im.discard()
	fmt.Fprintf(im.d.Err, "%d messages, %d octets, %d were there\n", im.row.Messages, im.row.Octets, im.row.Duplicates)
	return nil
}

func (im *importer) discard() {
	for _, x := range im.batch {
		x.Staged.Discard()
	}
	im.batch, im.octets = im.batch[:0], 0
}

// headerLook notes whether a header section holds octets above 127.
type headerLook struct {
	tail []byte // the last octets seen of the header section
	done bool
	utf8 bool
}

// Write implements io.Writer.
func (h *headerLook) Write(b []byte) (int, error) {
	if h.done {
		return len(b), nil
	}
	all := append(h.tail, b...)
	end := bytes.Index(all, []byte("\r\n\r\n"))
	if end >= 0 {
		h.done, all = true, all[:end]
	}
	h.utf8 = h.utf8 || bytes.ContainsFunc(all, func(r rune) bool { return r > 127 })
	h.tail = append([]byte(nil), all[max(0, len(all)-3):]...)
	return len(b), nil
}

// MailboxExport writes an account's messages to the output as a stream.
func (d *Desk) MailboxExport(ctx context.Context, who, folder string) error {
	a, err := d.owner(ctx, who)
	if err != nil {
		return err
	}
	out := NewStreamWriter(d.Out)
	var row TransferRow
	err = d.Rooms.Mailboxes.Walk(ctx, a.ID, func(e mailbox.Entry) error {
		if folder != "" && e.Mailbox != folder {
			return nil
		}
		r, err := d.Rooms.Mailboxes.OpenEntry(ctx, &e)
		if errors.Is(err, mailbox.ErrGone) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read message %s: %w", e.UniqueID, err)
		}
		defer r.Close()
		row.Messages, row.Octets = row.Messages+1, row.Octets+e.Octets
		return out.Write(Facts{Mailbox: e.Mailbox, UniqueID: e.UniqueID, Flags: uint32(e.Flags), Received: e.Received}, r)
	})
	if err != nil {
		return explain(err, "export mail of "+who)
	}
	fmt.Fprintf(d.Err, "%d messages, %d octets\n", row.Messages, row.Octets)
	return nil
}
