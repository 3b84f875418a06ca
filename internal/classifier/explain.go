package classifier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Word is a feature of a message at hand, and what it speaks for.
type Word struct {
	Text        string  // as in "subject: free money"; of the message, lower case
	Probability float64 // of spam, where it stands
	Seen        int     // messages it was seen in
}

// Explain judges a message and returns the n features that spoke loudest, the loudest first.
// It reads the message's words, which Judge does not have, and keeps none.
func (c *Classifier) Explain(ctx context.Context, account envelope.AccountID, ct *content.Content, n int) (Judgement, []Word, error) {
	b := newBuilder(ct, true)
	b.content(ct)
	f := b.features()
	j, err := c.Judge(ctx, account, f)
	if err != nil {
		return j, nil, err
	}
	var words []Word
	err = c.withModels(ctx, account, func(common, own *Model) {
		if common == nil && own == nil {
			return
		}
		if common == nil {
			common = nothing
		}
		for hashes, weights := range common.weigh(own, f) {
			for i, w := range weights {
				if w.seen > 0 {
					words = append(words, Word{Text: b.names[hashes[i]], Probability: w.p, Seen: w.seen})
				}
			}
		}
	})
	slices.SortFunc(words, func(a, b Word) int {
		return cmp.Or(cmp.Compare(math.Abs(b.Probability-0.5), math.Abs(a.Probability-0.5)), cmp.Compare(b.Seen, a.Seen), cmp.Compare(a.Text, b.Text))
	})
	return j, words[:min(len(words), max(n, 0))], err
}

// Stats is what was learned for an account, or of account Common for all.
type Stats struct {
	Spam, Ham int       // samples
	Shared    int       // of account Common: samples that accounts' marks taught
	Trained   time.Time // when it last learned; zero for never
	Counts    bool      // there are enough samples to judge by
	Features  int       // slots of the model in use; 0 while it is not in memory
	Octets    int64     // memory of the model
}

// Stats reads what was learned.
func (c *Classifier) Stats(ctx context.Context, account envelope.AccountID) (Stats, error) {
	var s Stats
	var trained int64
	err := c.cfg.DB.View(ctx, func(tx db.Tx) error {
		err := tx.QueryRow(`SELECT spam, ham, trained FROM classifier_model WHERE account = ?`, int64(account)).Scan(&s.Spam, &s.Ham, &trained)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil || account != Common {
			return err
		}
		return tx.QueryRow(`SELECT COUNT(*) FROM classifier_sample WHERE account = ? AND source <> 0`, int64(account)).Scan(&s.Shared)
	})
	if err != nil {
		return s, fmt.Errorf("read what account %d has taught: %w", account, err)
	}
	if trained != 0 && s.Spam+s.Ham > 0 {
		s.Trained = db.FromMicros(trained)
	}
	least := c.cfg.AccountMin
	if account == Common {
		least = c.cfg.CommonMin
	}
	s.Counts = min(s.Spam, s.Ham) >= max(least, 1) // also where no model is in memory, as without a server
	err = c.withModels(ctx, account, func(common, own *Model) {
		m := own
		if account == Common {
			m = common
		}
		if m == nil {
			return
		}
		s.Octets = m.Octets()
		for _, n := range m.counts {
			if n != ([2]uint16{}) {
				s.Features++
			}
		}
	})
	return s, err
}
