package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailfile"
	"poczta.example/poczta/internal/mua/store/thunderbird"
)

// Transfer is how far an import or export is, or what became of it.
type Transfer struct {
	Letters    int   `json:"letters"`
	Octets     int64 `json:"octets"`
	Duplicates int   `json:"duplicates"` // were there before
	Partial    int   `json:"partial"`    // not exported: only their headers are here
	Failed     int   `json:"failed"`
	// Failures are the first of what failed, each a sentence.
	Failures []string `json:"failures,omitempty"`
	Done     int64    `json:"-"` // octets of files read, or letters written
	Total    int64    `json:"-"` // 0 when it is not known
}

// maxFailures are told one by one.
const maxFailures = 20

func (t *Transfer) fail(what string, err error) {
	if t.Failed++; len(t.Failures) < maxFailures {
		t.Failures = append(t.Failures, fmt.Sprintf("%s: %v", what, err))
	}
}

// ImportOptions say where imported letters go.
type ImportOptions struct {
	// Folder takes all letters; "" keeps the folders of the source.
	Folder string
	// Below puts the folders of the source below this one: INBOX becomes it itself.
	Below    string
	Progress func(Transfer) // after each batch; may be nil
}

// folder is where a letter of the source's folder goes.
func (o *ImportOptions) folder(name string) string {
	switch {
	case o.Folder != "":
		name = o.Folder
	case o.Below != "" && (name == "" || strings.EqualFold(name, Inbox)):
		name = o.Below
	case o.Below != "":
		name = o.Below + "/" + name
	}
	checked, err := mailbox.CheckName(name)
	if err != nil { // a file's name may be anything
		return Inbox + " (import)"
	}
	return checked
}

// check refuses names that a person gave and no folder can have.
func (o *ImportOptions) check() error {
	_, err := mailbox.CheckName(o.Folder)
	_, below := mailbox.CheckName(o.Below)
	return errors.Join(err, below)
}

// importBatch bounds the octets of one batch.
const importBatch = 8 << 20

// Import reads mail files (mbox, Maildir, .eml: package mailfile) into an account, past the rules. What is
// there already, in the same folder with the same content, or was imported there before, is left out: it may
// be stopped and repeated. So is what would go to INBOX by its source, and lay in any folder but Trash when
// the import began: it was filed since. What can't be read is told in the outcome and does not stop it. Letters
// marked as deleted go to Trash.
func (s *Store) Import(ctx context.Context, account envelope.AccountID, path string, o ImportOptions) (Transfer, error) {
	if err := o.check(); err != nil {
		return Transfer{}, err
	}
	src, err := mailfile.Open(path, mailfile.Options{})
	if err != nil {
		return Transfer{}, err
	}
	defer src.Close()
	im := s.importer(account, o)
	im.t.Total = src.Total()
	defer im.discard()
	for m, err := range src.Messages() {
		im.t.Done = src.Done()
		if err != nil {
			im.t.fail(m.Name, err)
			continue
		}
		if err := im.add(ctx, &m, m.Body); err != nil {
			return im.t, fmt.Errorf("import %s, after %d letters: %w; what is imported stays: when the cause is mended, do the same again", path, im.t.Letters, err)
		}
	}
	im.t.Done = src.Done()
	if err := im.flush(ctx); err != nil {
		return im.t, fmt.Errorf("import %s, after %d letters: %w; what is imported stays: when the cause is mended, do the same again", path, im.t.Letters, err)
	}
	return im.t, nil
}

// ImportThunderbird is Import for one account of a Thunderbird profile.
func (s *Store) ImportThunderbird(ctx context.Context, account envelope.AccountID, from thunderbird.Account, o ImportOptions) (Transfer, error) {
	if err := o.check(); err != nil {
		return Transfer{}, err
	}
	im := s.importer(account, o)
	defer im.discard()
	for _, f := range from.Folders {
		im.t.Total += f.Octets
	}
	before := int64(0)
	for _, f := range from.Folders {
		for m, err := range f.Messages(func(octets int64) { im.t.Done = before + min(octets, f.Octets) }) {
			if err != nil {
				im.t.fail(m.Name, err)
				continue
			}
			if err := im.add(ctx, &m.Message, m.Octets); err != nil {
				return im.t, fmt.Errorf("import %s, after %d letters: %w; what is imported stays: when the cause is mended, do the same again", f.Path, im.t.Letters, err)
			}
		}
		before += f.Octets
		im.t.Done = before
	}
	if err := im.flush(ctx); err != nil {
		return im.t, fmt.Errorf("import %s, after %d letters: %w; what is imported stays: when the cause is mended, do the same again", from.Name, im.t.Letters, err)
	}
	return im.t, nil
}

// importer gathers batches.
type importer struct {
	s       *Store
	account envelope.AccountID
	o       ImportOptions
	t       Transfer
	batch   []mailbox.Import
	octets  int64
	buf     []byte
	before  LetterID // the last letter that was there when it began
}

func (s *Store) importer(account envelope.AccountID, o ImportOptions) *importer {
	return &importer{s: s, account: account, o: o, buf: make([]byte, 64<<10), before: LetterID(s.lastID.Load())}
}

// add stages a letter. An error is one that stops the import.
func (im *importer) add(ctx context.Context, m *mailfile.Message, r io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	staged, err := im.s.body.Stage(ctx, 0)
	if errors.Is(err, body.ErrBudget) && len(im.batch) > 0 {
		if err := im.flush(ctx); err != nil {
			return err
		}
		staged, err = im.s.body.Stage(ctx, 0)
	}
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{staged}, r, im.buf)
	if err != nil {
		staged.Discard()
		if errors.Is(err, body.ErrFull) || errors.Is(err, body.ErrFailed) || errors.Is(err, body.ErrBudget) {
			return err
		}
		im.t.fail(m.Name, err) // the file's fault, or too large
		return nil
	}
	one := mailbox.Import{Mailbox: im.o.folder(m.Folder), UniqueID: m.UniqueID, Flags: mailbox.Flags(m.Flags &^ mailfile.Deleted), Received: m.Received, Staged: staged}
	if m.Flags&mailfile.Deleted != 0 {
		one.Mailbox = Trash
	}
	filed := LetterID(0)
	if im.o.Folder == "" && im.o.Below == "" && one.Mailbox == Inbox {
		filed = im.before
	}
	there, err := im.s.there(ctx, im.account, &one, filed)
	if err != nil {
		staged.Discard()
		return err
	}
	if there {
		staged.Discard()
		im.t.Duplicates++
		return nil
	}
	im.batch = append(im.batch, one)
	if im.octets += n; len(im.batch) >= mailbox.MaxAppend || im.octets >= importBatch {
		return im.flush(ctx)
	}
	return nil
}

// flush stores the batch.
func (im *importer) flush(ctx context.Context) error {
	if len(im.batch) > 0 {
		done, err := im.s.Add(ctx, im.account, im.batch, nil)
		if err != nil {
			return err
		}
		for _, a := range done {
			if a.Duplicate {
				im.t.Duplicates++
			} else {
				im.t.Letters++
				im.t.Octets += a.Entry.Octets
			}
		}
		im.discard()
	}
	if im.o.Progress != nil {
		im.o.Progress(im.t)
	}
	return nil
}

func (im *importer) discard() {
	for _, x := range im.batch {
		x.Staged.Discard()
	}
	im.batch, im.octets = im.batch[:0], 0
}

// there reports whether a letter of the same content lies in the folder already, however it came there, or,
// up to the letter filed, in another but Trash. It
// is found by its Message-ID; one without is known by import_key alone. A time of receipt that the file does not know is the
// letter's date.
func (s *Store) there(ctx context.Context, account envelope.AccountID, im *mailbox.Import, filed LetterID) (bool, error) {
	h, err := readHeader(im.Staged, im.Staged.Octets())
	if err != nil {
		return false, err
	}
	if im.Received.IsZero() && !h.date.IsZero() && h.date.Before(s.cfg.Now()) {
		im.Received = h.date
	}
	if h.messageID == "" {
		return false, nil
	}
	// Most lie where their date says: a thread may be long.
	near := rankOf(dateOf(&h, im.Received))
	found, err := s.alike(ctx, account, im, h.messageID, filed, near, near+nearby)
	if err != nil || found {
		return found, err
	}
	return s.alike(ctx, account, im, h.messageID, filed, 0, 1<<62)
}

// nearby is how many ranks a letter may stand behind its date, where many bear the same.
const nearby = 4096

// alike is there for letters between two ranks.
func (s *Store) alike(ctx context.Context, account envelope.AccountID, im *mailbox.Import, messageID string, filed LetterID, from, to int64) (found bool, err error) {
	sum := im.Staged.SHA256()
	err = s.view(ctx, func(tx db.Tx) error {
		found = false
		rows, err := tx.Query(`SELECT l.number, l.uid FROM letter l INDEXED BY letter_thread JOIN mailbox m ON m.account = l.account AND m.number = l.number
			WHERE l.thread = (SELECT thread FROM thread_key WHERE key = ?) AND l.rank >= ? AND l.rank <= ? AND l.message_id = ? AND l.account = ?
			AND (m.name = ? OR l.id <= ? AND m.name <> ?) AND l.removed = 0 AND l.octets = ? LIMIT 20`,
			hash64("id", messageID), from, to, messageID, int64(account), im.Mailbox, int64(filed), Trash, im.Staged.Octets())
		if err != nil {
			return err
		}
		var all []letterPlace
		for rows.Next() {
			var p letterPlace
			if err := rows.Scan(&p.number, &p.uid); err != nil {
				return errors.Join(err, rows.Close())
			}
			all = append(all, p)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, p := range all {
			e, err := s.mailboxes.Entry(tx, account, p.number, p.uid)
			if err != nil {
				return err
			}
			loc, err := body.Lookup(tx, e.Body)
			if err != nil {
				return err
			}
			found = found || loc.SHA256 == sum && len(e.Prefix) == 0
		}
		return nil
	})
	return found, err
}

// Export writes the letters that q selects, oldest first, with flags and unique-ids, to w, which it does not
// close. Damaged letters are told in the outcome and left out, and partial ones are. progress may be nil.
func (s *Store) Export(ctx context.Context, q Query, w mailfile.Writer, progress func(Transfer)) (Transfer, error) {
	q.Sort, q.Cursor, q.Limit = Oldest, "", 200
	var t Transfer
	for {
		page, err := s.List(ctx, q)
		if err != nil {
			return t, err
		}
		for i := range page.Letters {
			m := &page.Letters[i]
			if err := s.export(ctx, m, w, &t); err != nil {
				return t, fmt.Errorf("export letter %d: %w", m.ID, err)
			}
			t.Done++
		}
		if progress != nil {
			progress(t)
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			return t, nil
		}
	}
}

// export writes one letter. An error is one of w, or of ctx.
func (s *Store) export(ctx context.Context, m *Summary, w mailfile.Writer, t *Transfer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.Partial {
		t.Partial++
		return nil
	}
	l, err := s.Letter(ctx, m.ID)
	if errors.Is(err, ErrNotFound) {
		return nil // removed meanwhile
	}
	if err != nil {
		t.fail(fmt.Sprintf("letter %d, %q", m.ID, m.Subject), err)
		return nil
	}
	defer l.Close()
	if p, large := l.ReaderAt.(*pieces); large { // a writer can't take back what turns out to be damaged
		if err := s.verify(ctx, p.c); err != nil {
			t.fail(fmt.Sprintf("letter %d, %q", m.ID, m.Subject), err)
			return nil
		}
	}
	f := mailfile.Message{Folder: m.Folder, UniqueID: m.UniqueID, Flags: mailfile.Flags(m.Flags), Received: m.Received}
	if err := w.Add(f, io.NewSectionReader(l, 0, l.Size)); err != nil {
		return err
	}
	t.Letters, t.Octets = t.Letters+1, t.Octets+l.Size
	return nil
}

// verify reads a letter to its end, where its sum is compared.
func (s *Store) verify(ctx context.Context, c mailbox.Content) error {
	r, err := s.body.OpenAt(ctx, c.Body, c.Location, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// Raw copies the octets of a letter to w, as they are.
func (s *Store) Raw(ctx context.Context, id LetterID, w io.Writer) error {
	l, err := s.Letter(ctx, id)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := io.Copy(w, io.NewSectionReader(l, 0, l.Size)); err != nil {
		return fmt.Errorf("write letter %d: %w", id, err)
	}
	return nil
}
