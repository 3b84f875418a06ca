package account

import (
	"fmt"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
)

// hit is what the tables say of one address in a local domain.
type hit struct {
	domain     string
	postmaster int64
	match      Match // 0: no rule fits
	local      Local // of MatchAddress and MatchSubaddress
	state      State
	forwarding forwarding
	source     string            // of MatchAlias and MatchCatchAll: the alias as written
	targets    []address.Address // of it, without those suspended
}

// lookupSQL reads everything an address can mean in its domain: a row for each
// name that fits, and for each target of an alias. No row: not our domain.
const lookupSQL = `
SELECT d.postmaster, COALESCE(n.name, ''), COALESCE(n.kind, 0), COALESCE(n.written, ''),
	COALESCE(c.id, 0), COALESCE(c.login, ''), COALESCE(c.state, 0), COALESCE(c.quota, 0), COALESCE(c.language, ''),
	COALESCE(c.forwards, 0), COALESCE(c.address, ''), COALESCE(c.vacation, 0), COALESCE(t.written, ''), COALESCE(t.suspended, 0)
FROM account_domain d
LEFT JOIN account_name n ON n.name IN (?, ?, ?)
LEFT JOIN account c ON c.id = n.account
LEFT JOIN account_target t ON t.source = n.name
WHERE d.name = ?
ORDER BY t.name`

// lookup applies the rules to one address, without following aliases. The error
// is ErrNotLocal or a fault.
func (r *router) lookup(addr address.Address) (hit, error) {
	exact, catchAll := addr.Key(), "@"+addr.Domain().String()
	user := exact
	base, detail, isSub := r.a.base(addr)
	if isSub {
		user = base.Key()
	}
	h := hit{domain: addr.Domain().String()}
	rows, err := r.tx.Query(lookupSQL, exact, user, catchAll, h.domain)
	if err != nil {
		return h, fmt.Errorf("look up %s: %w", addr, err)
	}
	defer rows.Close()
	best, known := rank(0), false
	for rows.Next() {
		var n nameRow
		err := rows.Scan(&h.postmaster, &n.name, &n.kind, &n.written, &n.id, &n.login, &n.state, &n.quota, &n.language,
			&n.forwards, &n.primary, &n.vacation, &n.target, &n.suspended)
		if err != nil {
			return h, fmt.Errorf("look up %s: %w", addr, err)
		}
		known = true
		k := n.rank(exact, user, catchAll)
		if k == 0 || k < best {
			continue
		}
		if k > best {
			best = k
			h.match, h.targets, h.source, h.local, h.state, h.forwarding = k.match(), nil, "", Local{}, 0, forwarding{}
		}
		if err := h.take(n); err != nil {
			return h, err
		}
	}
	if h.match == MatchSubaddress {
		h.local.Detail = detail
	}
	if err := rows.Err(); err != nil {
		return h, fmt.Errorf("look up %s: %w", addr, err)
	}
	if !known {
		return h, fmt.Errorf("%s: %w", addr, ErrNotLocal)
	}
	return h, nil
}

// nameRow is one row of lookupSQL.
type nameRow struct {
	name, written   string
	kind            int64
	id              int64
	login, language string
	state, quota    int64
	forwards        int64
	primary         string
	vacation        int64
	target          string
	suspended       int64
}

// rank orders the names that fit an address; higher wins, 0 does not fit.
type rank uint8

const (
	rankCatchAll rank = 1 + iota
	rankBaseAlias
	rankAlias
	rankBase
	rankAddress
)

func (k rank) match() Match {
	return [...]Match{0, MatchCatchAll, MatchAlias, MatchAlias, MatchSubaddress, MatchAddress}[k]
}

func (n nameRow) rank(exact, user, catchAll string) rank {
	alias := n.kind&kindAlias != 0
	switch {
	case !alias && n.kind&kindAddress == 0: // a login name alone takes no mail
		return 0
	case n.name == catchAll:
		return rankCatchAll
	case n.name == exact && alias:
		return rankAlias
	case n.name == exact:
		return rankAddress
	case n.name == user && alias:
		return rankBaseAlias
	case n.name == user:
		return rankBase
	}
	return 0
}

// take adds a row that belongs to the best rank.
func (h *hit) take(n nameRow) error {
	if n.kind&kindAlias != 0 {
		h.source = n.written
		if n.target == "" || n.suspended != 0 {
			return nil
		}
		target, err := address.Parse(n.target)
		if err != nil {
			return fmt.Errorf("read target of alias %s: %w", n.name, err)
		}
		h.targets = append(h.targets, target)
		return nil
	}
	written, err := address.Parse(n.written)
	if err != nil {
		return fmt.Errorf("read address %s: %w", n.name, err)
	}
	h.state, h.forwarding = State(n.state), forwarding{forwards(n.forwards), n.primary}
	h.local = Local{Account: envelope.AccountID(n.id), Login: n.login, Address: written, Quota: n.quota, Language: n.language, Vacation: n.vacation != 0}
	return nil
}
