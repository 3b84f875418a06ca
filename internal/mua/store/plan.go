package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/store/search"
)

// place is a folder as the tables name it.
type place struct {
	account envelope.AccountID
	number  int64
	name    string
}

// plan is a Query as it is carried out.
type plan struct {
	s       *Store
	q       Query
	text    search.Query
	places  []place  // folders; nil is all
	conds   []string // beside the folder and the dates
	args    []any
	oldest  bool
	at      int64 // rank behind which the page begins
	stop    int64 // rank at which it ends at the latest
	limit   int
	nothing bool // no folder is asked
}

// maxLimit is the longest page.
const maxLimit = 1000

func (s *Store) plan(ctx context.Context, q Query) (*plan, error) {
	p := &plan{s: s, q: q, oldest: q.Sort == Oldest, limit: min(q.Limit, maxLimit)}
	if p.limit <= 0 {
		p.limit = 50
	}
	if q.Cursor != "" && !q.Removed {
		at, err := strconv.ParseInt(q.Cursor, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("cursor %q is not one that an earlier list returned", q.Cursor)
		}
		p.at = at
	} else if !p.oldest {
		p.at = 1<<63 - 1
	} else {
		p.at = -1
	}
	if p.oldest {
		p.stop = 1<<63 - 1
	}
	var err error
	if p.text, err = search.Parse(q.Text, s.cfg.Now(), q.Typing); err != nil {
		return nil, err
	}
	if err := p.choosePlaces(ctx); err != nil {
		return nil, err
	}
	p.conditions()
	return p, nil
}

// choosePlaces finds the folders that are asked.
func (p *plan) choosePlaces(ctx context.Context) error {
	accounts := slices.Clone(p.q.Accounts)
	if len(p.text.Accounts) > 0 {
		var named []envelope.AccountID
		for _, name := range p.text.Accounts {
			if id, ok := p.s.findAccount(ctx, name); ok && (len(accounts) == 0 || slices.Contains(accounts, id)) {
				named = append(named, id)
			}
		}
		if p.nothing = len(named) == 0; p.nothing {
			return nil
		}
		accounts = named
	}
	folders := p.text.In
	everywhere := p.q.Everywhere || p.q.Thread != 0 || p.q.Removed
	if p.q.Folder != "" {
		folders = []string{p.q.Folder}
	}
	if slices.ContainsFunc(folders, func(f string) bool { return strings.EqualFold(f, "anywhere") }) && p.q.Folder == "" {
		folders, everywhere = nil, true
	}
	if len(accounts) == 0 && len(folders) == 0 && everywhere {
		return nil
	}
	all, err := p.s.places(ctx)
	if err != nil {
		return err
	}
	excluded := false
	for _, f := range all {
		wanted := len(accounts) == 0 || slices.Contains(accounts, f.account)
		if len(folders) > 0 {
			wanted = wanted && slices.ContainsFunc(folders, func(name string) bool { return strings.EqualFold(name, f.name) })
		} else if !everywhere {
			wanted = wanted && f.name != Trash && f.name != Junk
		}
		if wanted {
			p.places = append(p.places, f)
		} else {
			excluded = true
		}
	}
	p.nothing = len(p.places) == 0
	if !excluded {
		p.places = nil
	}
	return nil
}

// findAccount finds an account by its name or number.
func (s *Store) findAccount(ctx context.Context, name string) (envelope.AccountID, bool) {
	if s.cfg.Account != nil {
		if id, ok := s.cfg.Account(ctx, name); ok {
			return id, true
		}
	}
	n, err := strconv.ParseInt(name, 10, 64)
	return envelope.AccountID(n), err == nil
}

// places returns all folders.
func (s *Store) places(ctx context.Context) ([]place, error) {
	var all []place
	err := s.view(ctx, func(tx db.Tx) error {
		all = all[:0]
		rows, err := tx.Query(`SELECT account, number, name FROM mailbox ORDER BY account, number`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p place
			if err := rows.Scan(&p.account, &p.number, &p.name); err != nil {
				return err
			}
			all = append(all, p)
		}
		return rows.Err()
	})
	return all, err
}

// conditions makes what a letter must fulfil, on the columns that the index letter_rank has.
func (p *plan) conditions() {
	p.conds, p.args = nil, nil
	from, to := rankOf(p.text.After), rankOf(p.text.Before)
	if !p.text.After.IsZero() && p.oldest {
		p.at = max(p.at, from-1)
	} else if !p.text.After.IsZero() {
		p.stop = max(p.stop, from)
	}
	if !p.text.Before.IsZero() && p.oldest {
		p.stop = min(p.stop, to-1)
	} else if !p.text.Before.IsZero() {
		p.at = min(p.at, to)
	}
	is := p.text.Is
	for _, c := range []struct {
		asked bool
		sql   string
	}{
		{p.q.Unread || is.Unread, unreadSQL}, {is.Read, `l.flags & 1 <> 0`},
		{p.q.Flagged || is.Flagged, flaggedSQL}, {is.Unflagged, `l.flags & 4 = 0`},
		{is.Answered, `l.flags & 2 <> 0`}, {is.Unanswered, `l.flags & 2 = 0`}, {is.Draft, `l.flags & 8 <> 0`}, {is.Partial, `l.whole <> 0`},
		{p.text.Larger >= largeOctets, largeSQL}, {p.text.HasAttachment, attachedSQL}, {p.text.NoAttachment, `l.attachments = 0`},
	} {
		if c.asked {
			p.conds = append(p.conds, c.sql)
		}
	}
	for _, c := range []struct {
		asked bool
		sql   string
		arg   int64
	}{
		{p.text.Larger > 0, `MAX(l.octets, l.whole) > ?`, p.text.Larger}, {p.text.Smaller > 0, `MAX(l.octets, l.whole) < ?`, p.text.Smaller},
		{p.q.Thread != 0, `l.thread = ?`, p.q.Thread},
	} {
		if c.asked {
			p.conds, p.args = append(p.conds, c.sql), append(p.args, c.arg)
		}
	}
	if p.text.Without != "" {
		p.conds = append(p.conds, `l.rank NOT IN (SELECT rowid FROM letter_text WHERE letter_text MATCH ?)`)
		p.args = append(p.args, p.text.Without)
	}
}

// The conditions that indexes of their own serve, as those indexes have them.
const (
	unreadSQL  = `l.flags & 1 = 0`
	flaggedSQL = `l.flags & 4 <> 0`

	attachedSQL = `l.attachments > 0`
	largeSQL    = `MAX(l.octets, l.whole) >= 16384`
	largeOctets = 16384
)
