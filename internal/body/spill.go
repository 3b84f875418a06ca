package body

import (
	"context"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// spill is a large message on its way into Rows: its first octets stay in memory
// (the head comes before them), the others go to rows under an id of its own. It
// keeps the context of Stage, as io.Writer has no place for one.
type spill struct {
	ctx    context.Context
	r      *Rows
	id     message.ID
	first  *buffer // the first firstOctets
	tail   *buffer // the row being filled
	held   int     // octets in tail
	octets int64   // all that was written
	rows   int64   // rows written; their numbers begin with 1
	kept   bool    // committed
}

// newSpill begins a large message.
func (r *Rows) newSpill(ctx context.Context) (overflow, error) {
	id, err := spillID()
	if err != nil {
		return nil, err
	}
	first, err := r.mem.get(firstOctets)
	if err != nil {
		return nil, err
	}
	tail, err := r.mem.get(chunkOctets)
	if err != nil {
		r.mem.put(first)
		return nil, err
	}
	return &spill{ctx: ctx, r: r, id: id, first: first, tail: tail}, nil
}

// Write takes more octets.
func (l *spill) Write(p []byte) (int, error) {
	all := len(p)
	if l.octets < firstOctets {
		n := copy(l.first.b[l.octets:firstOctets], p)
		l.octets += int64(n)
		p = p[n:]
	}
	for len(p) > 0 {
		if l.held == chunkOctets {
			if err := l.flush(l.ctx); err != nil {
				return 0, err
			}
		}
		n := copy(l.tail.b[l.held:chunkOctets], p)
		l.held += n
		l.octets += int64(n)
		p = p[n:]
	}
	return all, nil
}

// flush writes the row being filled.
func (l *spill) flush(ctx context.Context) error {
	err := l.r.config.DB.Update(ctx, func(tx db.Tx) error {
		return insertChunk(tx, l.id, l.rows+1, l.tail.b[:l.held])
	})
	if err != nil {
		return rowsError("store part of a large message", err)
	}
	l.rows++
	l.held = 0
	return nil
}

// finish writes what is left before a commit.
func (l *spill) finish(ctx context.Context) error {
	if l.held == 0 {
		return nil
	}
	return l.flush(ctx)
}

// ReadAt reads what was written.
func (l *spill) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) && off < l.octets {
		var from []byte
		switch n := (off - firstOctets) / chunkOctets; {
		case off < firstOctets:
			from = l.first.b[off:min(l.octets, firstOctets)]
		case n == l.rows:
			from = l.tail.b[off-firstOctets-n*chunkOctets : l.held]
		default:
			part, err := l.r.chunk(l.ctx, l.id, n+1)
			if err != nil {
				return done, err
			}
			from = part[off-firstOctets-n*chunkOctets:]
		}
		n := copy(p[done:], from)
		done += n
		off += int64(n)
	}
	return done, nil
}

// discard gives the memory back, and removes the rows unless they were committed.
func (l *spill) discard() {
	if l.first == nil {
		return
	}
	l.r.mem.put(l.first)
	l.r.mem.put(l.tail)
	l.first, l.tail = nil, nil
	if l.kept || l.rows == 0 {
		return
	}
	if err := l.r.Remove(context.WithoutCancel(l.ctx), []message.ID{l.id}); err != nil {
		l.r.config.Logger.Warn("parts of a refused message stay until the next sweep", "error", err)
	}
}
