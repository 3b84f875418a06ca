package classifier

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Schema is the tables of this package.
//
// classifier_model has a row for each account that was taught, 0 for all: its counter gives
// samples and removals their numbers, which appear in order since the row is locked until the
// transaction ends. classifier_sample is what was learned; source is the account that taught
// the server a sample, or 0. classifier_gone tells other nodes what to take out of their
// models. classifier_checkpoint is the common model as of some numbers, in parts;
// classifier_saved says which generation of it is whole.
var Schema = db.Component{Name: "classifier", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE classifier_model (
	account {int} NOT NULL PRIMARY KEY, seq {int} NOT NULL, spam {int} NOT NULL, ham {int} NOT NULL, trained {int} NOT NULL,
	day {int} NOT NULL, shared {int} NOT NULL, floor {int} NOT NULL) {rowid};
CREATE TABLE classifier_sample (
	account {int} NOT NULL, seq {int} NOT NULL, class {int} NOT NULL, source {int} NOT NULL, hash {blob} NOT NULL,
	learned {int} NOT NULL, features {blob} NOT NULL,
	PRIMARY KEY (account, seq)) {rowid};
CREATE UNIQUE INDEX classifier_sample_hash ON classifier_sample (account, hash);
CREATE INDEX classifier_sample_class ON classifier_sample (account, class, seq);
CREATE TABLE classifier_gone (
	account {int} NOT NULL, seq {int} NOT NULL, sample {int} NOT NULL, class {int} NOT NULL,
	removed {int} NOT NULL, features {blob} NOT NULL,
	PRIMARY KEY (account, seq)) {rowid};
CREATE INDEX classifier_gone_removed ON classifier_gone (removed);
CREATE TABLE classifier_checkpoint (
	generation {int} NOT NULL, part {int} NOT NULL, counts {blob} NOT NULL,
	PRIMARY KEY (generation, part)) {rowid};
CREATE TABLE classifier_saved (
	id {int} NOT NULL PRIMARY KEY, generation {int} NOT NULL, version {int} NOT NULL, parts {int} NOT NULL, bits {int} NOT NULL,
	sample {int} NOT NULL, gone {int} NOT NULL, spam {int} NOT NULL, ham {int} NOT NULL, written {int} NOT NULL) {rowid}`}}}

// The classes of samples.
const (
	classHam  = 0
	classSpam = 1
)

func classOf(spam bool) int64 {
	if spam {
		return classSpam
	}
	return classHam
}

// Sample is a message to learn.
type Sample struct {
	Features Features
	Hash     [32]byte // HashOf the message
	Spam     bool
}

// learnChunk is how many samples LearnMany commits at a time.
const learnChunk = 128

// Learn remembers a message as spam or ham for an account, or of account Common for all. A
// message that was learned before is learned anew if its class differs. Of an account's marks
// Config.ShareDaily a day teach the whole server too, unless somebody else taught it that
// message. It is durable, and counts on this node, when Learn returns nil.
func (c *Classifier) Learn(ctx context.Context, account envelope.AccountID, f Features, hash [32]byte, spam bool) error {
	if err := c.learn(ctx, account, []Sample{{f, hash, spam}}, c.cfg.DB.Update); err != nil {
		return err
	}
	return c.catchUp(ctx, account)
}

// LearnMany learns many messages in chunks, in the database's low lane, and returns how many it
// learned. It calls progress, unless nil, after each chunk with that number. Chunks done
// before an error stay done; learning them again changes nothing.
func (c *Classifier) LearnMany(ctx context.Context, account envelope.AccountID, samples iter.Seq[Sample], progress func(done int)) (int, error) {
	done, chunk := 0, make([]Sample, 0, learnChunk)
	flush := func() error {
		if err := c.learn(ctx, account, chunk, c.cfg.DB.UpdateLow); err != nil {
			return err
		}
		done += len(chunk)
		chunk = chunk[:0]
		if progress != nil {
			progress(done)
		}
		return nil
	}
	for s := range samples {
		if chunk = append(chunk, s); len(chunk) == learnChunk {
			if err := flush(); err != nil {
				return done, err
			}
		}
	}
	if len(chunk) > 0 {
		if err := flush(); err != nil {
			return done, err
		}
	}
	return done, c.catchUp(ctx, account)
}

// learn commits samples.
func (c *Classifier) learn(ctx context.Context, account envelope.AccountID, samples []Sample, update func(context.Context, func(db.Tx) error) error) error {
	packed := make([][]byte, len(samples))
	var n [2]int
	for i, s := range samples {
		packed[i] = s.Features.pack()
		n[classOf(s.Spam)]++
	}
	err := update(ctx, func(tx db.Tx) error {
		w := writer{tx: tx, now: db.Micros(c.cfg.Now())}
		if account != Common && c.cfg.ShareDaily > 0 { // rows are locked in order
			if err := w.lock(Common); err != nil {
				return err
			}
		}
		if err := w.lock(account); err != nil {
			return err
		}
		for i, s := range samples {
			changed, err := w.learn(account, account, s, packed[i], c.limit(account))
			if err != nil {
				return err
			}
			if changed && account != Common && c.cfg.ShareDaily > 0 {
				if err := c.share(&w, account, s, packed[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("learn messages for account %d: %w", account, err)
	}
	if c.cfg.Hooks.Learned != nil {
		for class, n := range n {
			if n > 0 {
				c.cfg.Hooks.Learned(class == classSpam, n)
			}
		}
	}
	return nil
}

func (c *Classifier) limit(account envelope.AccountID) int64 {
	if account == Common {
		return int64(c.cfg.CommonSamples)
	}
	return int64(c.cfg.AccountSamples)
}

// share teaches the whole server what an account marked, as far as it may.
func (c *Classifier) share(w *writer, account envelope.AccountID, s Sample, packed []byte) error {
	day := w.now / 86_400_000_000
	n, err := w.tx.Exec(`UPDATE classifier_model SET shared = CASE WHEN day = ? THEN shared + 1 ELSE 1 END, day = ?
		WHERE account = ? AND (day <> ? OR shared < ?)`, day, day, int64(account), day, int64(c.cfg.ShareDaily))
	if err != nil || n == 0 {
		return err
	}
	_, err = w.learn(Common, account, s, packed, c.limit(Common))
	return err
}

// Forget takes a message out of what an account has taught, and out of what the server
// learned of it by that account. It reports whether it was there.
func (c *Classifier) Forget(ctx context.Context, account envelope.AccountID, hash [32]byte) (bool, error) {
	var found bool
	err := c.cfg.DB.Update(ctx, func(tx db.Tx) error {
		w := writer{tx: tx, now: db.Micros(c.cfg.Now())}
		found = false
		for _, of := range []envelope.AccountID{Common, account} {
			if err := w.lock(of); err != nil {
				return err
			}
			old, err := w.find(of, hash)
			if err != nil {
				return err
			}
			if old.seq == 0 || of != account && old.source != int64(account) {
				continue
			}
			if err := w.remove(of, old); err != nil {
				return err
			}
			found = true
			if account == Common {
				break
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("forget message of account %d: %w", account, err)
	}
	return found, c.catchUp(ctx, account)
}

// ForgetAccount removes all that an account has taught for itself, as when it is removed. What
// the server learned of it stays.
func (c *Classifier) ForgetAccount(ctx context.Context, account envelope.AccountID) error {
	if account == Common {
		return errors.New("forget account: the samples of all are removed one by one, with Forget")
	}
	for _, table := range []string{"classifier_sample", "classifier_gone"} {
		err := db.Chunks(ctx, c.cfg.DB, func(tx db.Tx, limit int) (int, error) {
			n, err := tx.Exec(`DELETE FROM `+table+` WHERE account = ? AND seq IN
				(SELECT seq FROM `+table+` WHERE account = ? ORDER BY seq LIMIT ?)`, int64(account), int64(account), int64(limit))
			return int(n), err
		})
		if err != nil {
			return fmt.Errorf("forget account %d: %w", account, err)
		}
	}
	// The counter stays and its floor makes every node count anew.
	err := c.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`UPDATE classifier_model SET seq = seq + 1, floor = seq + 1,
			spam = (SELECT COUNT(*) FROM classifier_sample WHERE classifier_sample.account = classifier_model.account AND class = 1),
			ham = (SELECT COUNT(*) FROM classifier_sample WHERE classifier_sample.account = classifier_model.account AND class = 0)
			WHERE account = ?`, int64(account))
		return err
	})
	if err != nil {
		return fmt.Errorf("forget account %d: %w", account, err)
	}
	return c.catchUp(ctx, account)
}

// writer changes samples in a transaction.
type writer struct {
	tx  db.Tx
	now int64
}

// stored is a sample in the database; seq is 0 for none.
type stored struct {
	seq, class, source int64
	features           []byte
}

// lock makes sure of an account's row and holds it until the transaction ends.
func (w *writer) lock(account envelope.AccountID) error {
	_, err := w.next(account)
	return err
}

// next is the next number of an account's samples and removals.
func (w *writer) next(account envelope.AccountID) (seq int64, err error) {
	err = w.tx.QueryRow(`INSERT INTO classifier_model (account, seq, spam, ham, trained, day, shared, floor) VALUES (?, 1, 0, 0, ?, 0, 0, 0)
		ON CONFLICT (account) DO UPDATE SET seq = classifier_model.seq + 1 RETURNING seq`, int64(account), w.now).Scan(&seq)
	return seq, err
}

// learn stores a sample. It reports false when there is nothing to change: the message was
// learned as the same, or somebody else taught it.
func (w *writer) learn(account, source envelope.AccountID, s Sample, packed []byte, limit int64) (bool, error) {
	class := classOf(s.Spam)
	old, err := w.find(account, s.Hash)
	if err != nil || old.seq != 0 && (old.class == class || source != account && old.source != int64(source)) {
		return false, err
	}
	if old.seq != 0 {
		if err := w.remove(account, old); err != nil {
			return false, err
		}
	}
	seq, err := w.next(account)
	if err != nil {
		return false, err
	}
	if source == account {
		source = 0
	}
	_, err = w.tx.Exec(`INSERT INTO classifier_sample (account, seq, class, source, hash, learned, features) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		int64(account), seq, class, int64(source), s.Hash[:], w.now, packed)
	if err != nil {
		return false, err
	}
	var n [2]int64
	err = w.tx.QueryRow(`UPDATE classifier_model SET spam = spam + ?, ham = ham + ?, trained = ? WHERE account = ? RETURNING ham, spam`,
		class, 1-class, w.now, int64(account)).Scan(&n[classHam], &n[classSpam])
	if err != nil {
		return false, err
	}
	// More than one where the limit was lowered.
	for range min(n[classHam]+n[classSpam]-limit, 3) {
		more := int64(classHam)
		if n[classSpam] > n[classHam] {
			more = classSpam
		}
		if err := w.removeOldest(account, more); err != nil {
			return false, err
		}
		n[more]--
	}
	return true, nil
}

// find returns what was learned of a message.
func (w *writer) find(account envelope.AccountID, hash [32]byte) (s stored, err error) {
	err = w.tx.QueryRow(`SELECT seq, class, source, features FROM classifier_sample WHERE account = ? AND hash = ?`, int64(account), hash[:]).
		Scan(&s.seq, &s.class, &s.source, &s.features)
	if errors.Is(err, db.ErrNotFound) {
		return stored{}, nil
	}
	return s, err
}

func (w *writer) removeOldest(account envelope.AccountID, class int64) error {
	var s stored
	err := w.tx.QueryRow(`SELECT seq, class, source, features FROM classifier_sample WHERE account = ? AND class = ? ORDER BY seq LIMIT 1`, int64(account), class).
		Scan(&s.seq, &s.class, &s.source, &s.features)
	if err != nil {
		return err
	}
	return w.remove(account, s)
}

// remove deletes a sample and notes that for other nodes.
func (w *writer) remove(account envelope.AccountID, s stored) error {
	seq, err := w.next(account)
	if err != nil {
		return err
	}
	if _, err := w.tx.Exec(`DELETE FROM classifier_sample WHERE account = ? AND seq = ?`, int64(account), s.seq); err != nil {
		return err
	}
	_, err = w.tx.Exec(`INSERT INTO classifier_gone (account, seq, sample, class, removed, features) VALUES (?, ?, ?, ?, ?, ?)`,
		int64(account), seq, s.seq, s.class, w.now, s.features)
	if err != nil {
		return err
	}
	_, err = w.tx.Exec(`UPDATE classifier_model SET spam = spam - ?, ham = ham - ? WHERE account = ?`, s.class, 1-s.class, int64(account))
	return err
}
