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
	im := &importer{d: d, account: a, buf: make([]byte, maxBlock)}
	defer im.end()
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
			err = errors.Join(err, im.await())
			return fmt.Errorf("import mail of %s, after %d messages: %w; what is imported stays: when the cause is mended, run the same command again", who, im.row.Messages, err)
		}
	}
	if err := errors.Join(im.flush(ctx), im.await()); err != nil {
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
	buf      []byte

	storing chan error // of the batch that is being stored; nil when none is
}

func (im *importer) add(ctx context.Context, f Facts, msg io.Reader) error {
	staged, err := im.d.Rooms.Body.Stage(ctx, 0)
	if errors.Is(err, body.ErrBudget) && (len(im.batch) > 0 || im.storing != nil) {
		if err := errors.Join(im.flush(ctx), im.await()); err != nil {
			return err
		}
		staged, err = im.d.Rooms.Body.Stage(ctx, 0)
	}
	if err != nil {
		return err
	}
	look := &headerLook{}
	n, err := io.CopyBuffer(staged, io.TeeReader(msg, look), im.buf)
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

// flush begins to store the batch when the one before is stored. The next one is
// read meanwhile.
func (im *importer) flush(ctx context.Context) error {
	if err := im.await(); err != nil || len(im.batch) == 0 {
		return err
	}
	batch, storing := im.batch, make(chan error, 1)
	im.batch, im.octets, im.storing = nil, 0, storing
	go func() { storing <- im.store(ctx, batch) }()
	return nil
}

// await waits until what flush has begun is stored.
func (im *importer) await() error {
	if im.storing == nil {
		return nil
	}
	err := <-im.storing
	im.storing = nil
	return err
}

// store stores a batch and counts it. Between flush and await it alone touches im.row.
func (im *importer) store(ctx context.Context, batch []mailbox.Import) error {
	defer discard(batch)
	done, err := im.d.Rooms.Mailboxes.Append(ctx, im.account.ID, im.account.Login, batch)
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
	return nil
}

// end waits for what is being stored, and gives back what is not stored.
func (im *importer) end() {
	_ = im.await() // an error before it is told
	discard(im.batch)
}

func discard(batch []mailbox.Import) {
	for _, x := range batch {
		x.Staged.Discard()
	}
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

// MailboxExport writes an account's messages to the output as a stream. Damaged
// ones are named and left out; then the error says how many.
func (d *Desk) MailboxExport(ctx context.Context, who, folder string) error {
	a, err := d.owner(ctx, who)
	if err != nil {
		return err
	}
	ex := &exporter{d: d, out: NewStreamWriter(d.Out), buf: make([]byte, maxBlock)}
	err = d.Rooms.Mailboxes.Walk(ctx, a.ID, func(e mailbox.Entry) error {
		if folder != "" && e.Mailbox != folder {
			return nil
		}
		return ex.add(ctx, &e)
	})
	if err == nil {
		err = ex.out.End()
	}
	if err != nil {
		return explain(err, "export mail of "+who)
	}
	if ex.row.Messages == 0 && ex.damaged == 0 && folder != "" {
		fmt.Fprintf(d.Err, "%q of %s holds no mail; poczta mailbox list %s shows the mailboxes\n", folder, who, who)
	}
	fmt.Fprintf(d.Err, "%d messages, %d octets\n", ex.row.Messages, ex.row.Octets)
	if ex.damaged > 0 {
		return fmt.Errorf("%d messages are damaged and were left out; all others are written; poczta store check names what is damaged", ex.damaged)
	}
	return nil
}

// exporter writes messages to a stream.
type exporter struct {
	d       *Desk
	out     *StreamWriter
	row     TransferRow
	damaged int
	buf     []byte
}

// add writes one message. It is read twice, since a stream can't take back what
// turns out to be damaged.
func (ex *exporter) add(ctx context.Context, e *mailbox.Entry) error {
	err := ex.read(ctx, e, func(r io.Reader) error {
		n, err := io.CopyBuffer(onlyWriter{io.Discard}, r, ex.buf)
		if err == nil && n != e.Octets {
			err = fmt.Errorf("it has %d octets, not %d", n, e.Octets)
		}
		return err
	})
	switch {
	case errors.Is(err, mailbox.ErrGone):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		ex.damaged++
		fmt.Fprintf(ex.d.Err, "message %s in %q: %v; left out\n", e.UniqueID, e.Mailbox, err)
		return nil
	}
	err = ex.read(ctx, e, func(r io.Reader) error {
		return ex.out.Write(Facts{Mailbox: e.Mailbox, UniqueID: e.UniqueID, Flags: uint32(e.Flags), Received: e.Received}, r)
	})
	if errors.Is(err, mailbox.ErrGone) { // purged between the two
		return nil
	}
	if err != nil {
		return fmt.Errorf("message %s: %w", e.UniqueID, err)
	}
	ex.row.Messages, ex.row.Octets = ex.row.Messages+1, ex.row.Octets+e.Octets
	return nil
}

// read opens a message for fn.
func (ex *exporter) read(ctx context.Context, e *mailbox.Entry, fn func(io.Reader) error) error {
	r, err := ex.d.Rooms.Mailboxes.OpenEntry(ctx, e)
	if err != nil {
		return err
	}
	defer r.Close()
	return fn(r)
}

// onlyWriter hides what else a writer can do.
type onlyWriter struct{ io.Writer }
