package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store/extract"
	"poczta.example/poczta/internal/mua/store/search"
)

// Bounds of one batch of the index.
const (
	indexBatch = 200
	indexText  = 4 << 20 // octets of folded text in one transaction
)

// The index gives way to Add: it waits until none was at work for a while, but not for longer than patience.
const (
	indexCalm     = 300 * time.Millisecond
	indexPatience = 5 * time.Second
)

// Bounds of what is folded of one letter, in octets.
const (
	foldText   = 512 << 10
	foldPeople = 32 << 10
)

// Progress is how far the index is.
type Progress struct {
	Done, Total int64 // letters
}

// Indexed says how far the index is.
func (s *Store) Indexed(ctx context.Context) (Progress, error) {
	var p Progress
	err := s.view(ctx, func(tx db.Tx) error {
		var todo int64
		if err := tx.QueryRow(`SELECT COUNT(*) FROM letter WHERE indexed = 0 AND removed = 0`).Scan(&todo); err != nil {
			return err
		}
		if err := tx.QueryRow(`SELECT COALESCE(SUM(messages), 0) FROM mailbox`).Scan(&p.Total); err != nil {
			return err
		}
		p.Done = max(0, p.Total-todo)
		return nil
	})
	if err != nil {
		return p, fmt.Errorf("look how far the index is: %w", err)
	}
	return p, nil
}

// wakeIndex tells Run that there is something to index.
func (s *Store) wakeIndex() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// todo is a letter whose text is to be read.
type todo struct {
	id, rank, turn int64
	account        envelope.AccountID
	number         int64
	uid            mailbox.UID
	counted        bool
	sent           bool // lies in Sent or Drafts: its recipients are people that were written to
	date           int64
	head           header
	snippet        string
	attachments    int
	failed         bool
	gone           bool
	done           bool
	columns        [6]string // folded
}

// Catchup indexes until nothing is left, at once; Run does it by and by. progress may be nil.
func (s *Store) Catchup(ctx context.Context, progress func(Progress)) error {
	if err := s.beginReread(ctx); err != nil {
		return err
	}
	for {
		n, err := s.indexSome(ctx)
		if err != nil || n == 0 {
			return err
		}
		if progress != nil {
			p, err := s.Indexed(ctx)
			if err != nil {
				return err
			}
			progress(p)
		}
	}
}

// indexSome indexes a batch, the newest letters first, and returns how many letters it was.
func (s *Store) indexSome(ctx context.Context) (int, error) {
	s.indexing.Lock()
	defer s.indexing.Unlock()
	batch, err := s.nextTodo(ctx)
	if err != nil || len(batch) == 0 {
		return 0, err
	}
	batch = s.readTexts(ctx, batch)
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	slices.SortFunc(batch, func(a, b todo) int { return cmp.Compare(a.rank, b.rank) }) // what comes in order is one piece to FTS5
	err = s.db.UpdateLow(ctx, func(tx db.Tx) error {
		for i := range batch {
			if err := indexOne(tx, &batch[i]); err != nil {
				return err
			}
		}
		return countPeople(tx, batch)
	})
	if err != nil {
		return 0, fmt.Errorf("index %d letters: %w", len(batch), err)
	}
	return len(batch), nil
}

// nextTodo reads which letters come next.
func (s *Store) nextTodo(ctx context.Context) ([]todo, error) {
	var batch []todo
	err := s.view(ctx, func(tx db.Tx) error {
		batch = batch[:0]
		rows, err := tx.Query(`SELECT l.id, l.rank, l.turn, l.account, l.number, l.uid, l.counted <> 0, m.name IN ('Sent', 'Drafts'), l.date
			FROM letter l INDEXED BY letter_todo JOIN mailbox m ON m.account = l.account AND m.number = l.number WHERE l.indexed = 0 AND l.removed = 0 ORDER BY l.id DESC LIMIT ?`, int64(indexBatch))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var t todo
			if err := rows.Scan(&t.id, &t.rank, &t.turn, &t.account, &t.number, &t.uid, &t.counted, &t.sent, &t.date); err != nil {
				return err
			}
			batch = append(batch, t)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("look for letters to index: %w", err)
	}
	return batch, nil
}

// readTexts reads what the letters say, several at once, and returns those that were read: no
// more of them when they hold much.
func (s *Store) readTexts(ctx context.Context, batch []todo) []todo {
	workers := max(1, runtime.GOMAXPROCS(0)-1)
	size, read := 0, 0
	for chunk := range slices.Chunk(batch, 4*workers) {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := w; i < len(chunk); i += workers {
					s.readText(ctx, &chunk[i])
				}
			})
		}
		wg.Wait()
		for i := range chunk {
			for _, c := range chunk[i].columns {
				size += len(c)
			}
		}
		if read += len(chunk); size > indexText {
			break
		}
	}
	return batch[:read]
}

// readText reads what one letter says. One that can't be read is indexed by its summary, as damaged: it must
// not be tried for ever.
func (s *Store) readText(ctx context.Context, t *todo) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Logger.Error("reading the text of a letter failed; please report it", "letter", t.id, "panic", fmt.Sprint(p))
			t.failed = true
		}
	}()
	r, size, err := s.octets(ctx, t.account, t.number, t.uid)
	if errors.Is(err, mailbox.ErrGone) {
		t.gone = true // moved meanwhile, then its row says so next time; or purged
		return
	}
	if err == nil {
		t.head, err = readHeader(r, size)
	}
	var text *extract.Text
	if err == nil {
		text, err = extract.Read(r, size, extract.Limits{})
	}
	if err != nil {
		if ctx.Err() == nil {
			s.cfg.Logger.Error("a letter can't be read; its text is not searched", "letter", t.id, "error", err)
		}
		t.failed = true
		return
	}
	for _, u := range text.Unread {
		s.cfg.Logger.Info("an attachment is not searched, or not all of it", "letter", t.id, "attachment", u)
	}
	t.snippet, t.attachments = db.Text(text.Snippet), text.Attachments
	t.columns = [6]string{
		search.Fold(t.head.subject, maxSubject*2), search.Fold(peopleText(t.head.from), foldPeople), search.Fold(peopleText(t.head.all), foldPeople),
		search.Fold(text.Body, foldText), search.Fold(text.Files, foldPeople), search.Fold(text.Inside, foldText),
	}
}

// peopleText is names and addresses as text.
func peopleText(all []Address) string {
	var b strings.Builder
	for _, a := range all {
		b.WriteString(a.Name)
		b.WriteByte('\n')
		b.WriteString(a.Address)
		b.WriteByte('\n')
	}
	return b.String()
}

// indexOne writes one letter's text, unless the letter has changed since it was read.
func indexOne(tx db.Tx, t *todo) error {
	n, err := tx.Exec(`UPDATE letter SET indexed = 1, counted = 1, snippet = ?, attachments = ? WHERE id = ? AND turn = ? AND indexed = 0 AND removed = 0 AND account = ? AND number = ? AND uid = ?`,
		t.snippet, int64(t.attachments), t.id, t.turn, int64(t.account), t.number, int64(t.uid))
	t.done = n > 0 && !t.failed && !t.gone
	if err != nil || !t.done {
		return err
	}
	c := &t.columns
	_, err = tx.Exec(`INSERT INTO letter_text (rowid, subject, sender, recipients, body, files, inside) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		t.rank, c[0], c[1], c[2], c[3], c[4], c[5])
	return err
}

// Reindex makes the full text, snippets and counts of attachments anew, for all letters. It may be stopped:
// Run or the next Catchup goes on. progress may be nil.
func (s *Store) Reindex(ctx context.Context, progress func(Progress)) error {
	s.indexing.Lock()
	err := s.db.Update(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO letter_text (letter_text) VALUES ('delete-all')`); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE letter SET indexed = 0, turn = turn + 1 WHERE indexed <> 0`); err != nil {
			return err
		}
		return rereadAll(tx)
	})
	s.indexing.Unlock()
	if err != nil {
		return fmt.Errorf("begin to index anew: %w", err)
	}
	return s.Catchup(ctx, progress)
}

// indexLoop indexes what was added, off the way of Add, until ctx ends; when nothing is left, letters
// that an older program read are read anew, by and by.
func (s *Store) indexLoop(ctx context.Context) {
	if err := s.beginReread(ctx); err != nil && ctx.Err() == nil {
		s.cfg.Logger.Error("whether letters are to be read anew is not known; it is tried again with the next start", "error", err)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for ctx.Err() == nil {
			s.calm(ctx)
			n, err := s.indexSome(ctx)
			if err == nil && n == 0 {
				n, err = s.rereadSome(ctx)
			}
			if err != nil && ctx.Err() == nil {
				s.cfg.Logger.Error("indexing failed; it is tried again with the next letter, or in an hour", "error", err)
			}
			if err != nil || n == 0 {
				break
			}
		}
	}
}

// calm waits while letters are added.
func (s *Store) calm(ctx context.Context) {
	deadline := time.Now().Add(indexPatience)
	for time.Now().Before(deadline) {
		quiet := time.Since(time.Unix(0, s.addedAt.Load()))
		if s.adding.Load() == 0 && quiet >= indexCalm {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(indexCalm-quiet, 20*time.Millisecond)):
		}
	}
}
