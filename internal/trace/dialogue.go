package trace

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// MaxDialogueOctets is how much of a dialogue is kept, before compression; what
// stands in the middle is left out.
const MaxDialogueOctets = 16 << 10

// KindAttempt is the kind of the event of an attempt to deliver.
const KindAttempt = "attempt"

// Attempt is one attempt to deliver to one recipient, as its event tells it.
type Attempt struct {
	At     time.Time
	N      int    // fate's number
	Host   string // as in "mx.example.com [192.0.2.25]"; "" when none was reached
	TLS    string // as in "TLS1.3 TLS_AES_128_GCM_SHA256 verified"; "" is none
	Status string // the reply, or what went wrong
}

// Detail returns the attempt in one line: host, TLS and status.
func (a Attempt) Detail() string {
	var b strings.Builder
	if a.Host != "" {
		b.WriteString(a.Host)
		if a.TLS != "" {
			b.WriteString(" (" + a.TLS + ")")
		}
		b.WriteString(": ")
	}
	b.WriteString(a.Status)
	return b.String()
}

// NoteAttempt adds the event of an attempt, in the transaction that settles it.
func (t *Trace) NoteAttempt(tx db.Tx, id message.ID, a Attempt) error {
	return t.Note(tx, id, Event{At: a.At, N: a.N, Kind: KindAttempt, Detail: a.Detail()})
}

// PackDialogue makes the form in which a dialogue is stored: at most
// MaxDialogueOctets of it, compressed. It is to be called outside of transactions.
// An empty dialogue is nil.
func PackDialogue(text []byte) []byte {
	if len(text) == 0 {
		return nil
	}
	if len(text) > MaxDialogueOctets {
		const mark = "\n[…]\n"
		half := (MaxDialogueOctets - len(mark)) / 2
		text = append(append(append([]byte(nil), text[:half]...), mark...), text[len(text)-half:]...)
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return nil // no such level; it is a constant
	}
	_, _ = w.Write(text) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// unpackDialogue reads what PackDialogue made.
func unpackDialogue(packed []byte) (string, error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), MaxDialogueOctets))
	if err != nil {
		return "", fmt.Errorf("unpack dialogue: %w", err)
	}
	return strings.ToValidUTF8(string(text), "?"), nil
}

// Dialogue is what was said at the last failed attempt for a recipient. Several
// recipients of one transaction share the dialogue of the first of them.
type Dialogue struct {
	At   time.Time
	N    int // fate's number
	Text string
}

// NoteDialogue keeps packed (PackDialogue) as the dialogue of the last failed
// attempt of fate n, in place of an earlier one. Nothing packed is no dialogue.
func (t *Trace) NoteDialogue(tx db.Tx, id message.ID, n int, at time.Time, packed []byte) error {
	if len(packed) == 0 {
		return nil
	}
	_, err := tx.Exec(`INSERT INTO trace_dialogue (id, n, happened, packed) VALUES (?, ?, ?, ?) ON CONFLICT (id, n) DO UPDATE SET happened = excluded.happened, packed = excluded.packed`,
		id[:], int64(n), db.Micros(at), packed)
	if err != nil {
		return fmt.Errorf("keep dialogue of message %s: %w", id, err)
	}
	return nil
}

// Dialogues returns the dialogues of a message's last failed attempts in order
// of N. A Viewer that is no operator gets ErrNotFound: they name hosts and addresses of others.
func (t *Trace) Dialogues(ctx context.Context, v Viewer, id message.ID) ([]Dialogue, error) {
	if !v.Operator {
		return nil, fmt.Errorf("dialogues of message %s: %w", id, ErrNotFound)
	}
	var all []Dialogue
	err := t.cfg.DB.View(ctx, func(tx db.Tx) error {
		all = all[:0]
		rows, err := tx.Query(`SELECT n, happened, packed FROM trace_dialogue WHERE id = ? ORDER BY n LIMIT ?`, id[:], int64(maxDialogues))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n, at int64
			var packed []byte
			if err := rows.Scan(&n, &at, &packed); err != nil {
				return err
			}
			text, err := unpackDialogue(packed)
			if err != nil {
				return err
			}
			all = append(all, Dialogue{At: db.FromMicros(at), N: int(n), Text: text})
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("dialogues of message %s: %w", id, err)
	}
	return all, nil
}

// maxDialogues bounds what one look at a message's dialogues returns.
const maxDialogues = 100
