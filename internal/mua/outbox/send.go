package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/smtpclient"
)

// errUndone ends a transaction whose letter was undone before it left.
var errUndone = errors.New("the letter was undone")

// quitTimeout is how long a server is given to say goodbye.
const quitTimeout = 5 * time.Second

// round sends what is due; with force also what waits after a failure. It returns why letters that
// were due wait on.
func (o *Outbox) round(ctx context.Context, force bool) error {
	select {
	case <-o.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { o.turn <- struct{}{} }()
	if err := o.recover(ctx); err != nil {
		return err
	}
	if err := o.finish(ctx); err != nil { // is told at the end, if it still fails
		o.c.Logger.Warn("letters could not be filed", "error", err)
	}
	now := o.micros()
	where, args := `state = 1 AND next <= ? ORDER BY next`, []any{now}
	if force {
		where, args = `state = 1 AND (next <= ? OR failures > 0) AND send_at <= ? ORDER BY next`, []any{now, now}
	}
	due, err := o.table.rows(ctx, where, args...)
	if err != nil {
		return err
	}
	byAccount := map[envelope.AccountID][]ID{}
	for _, r := range due {
		byAccount[r.account] = append(byAccount[r.account], r.id)
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(byAccount))
	for account, ids := range byAccount {
		wg.Go(func() { errs <- o.deliver(ctx, account, ids) })
	}
	wg.Wait()
	close(errs)
	all := []error{}
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(append(all, o.finish(context.WithoutCancel(ctx)))...)
}

// courier sends the letters of one account, in one session where that goes.
type courier struct {
	o *Outbox
	a profile.Account
	s *smtpclient.Session
}

// deliver sends letters of one account.
func (o *Outbox) deliver(ctx context.Context, account envelope.AccountID, ids []ID) error {
	a, err := o.account(ctx, account)
	if errors.Is(err, profile.ErrNotFound) {
		return o.hold(ctx, ids, "The account that should send it is not there any more.")
	}
	if err != nil {
		return err
	}
	work, done := graceful(ctx, o.c.Grace)
	defer done()
	c := &courier{o: o, a: a}
	defer c.quit(work)
	var errs []error
	for i, id := range ids {
		if ctx.Err() != nil {
			break
		}
		if err := c.open(work); err != nil {
			errs = append(errs, fmt.Errorf("send mail of %s: %w", a.Address, err))
			if err := o.putOff(ctx, ids[i:], err); err != nil {
				errs = append(errs, err)
			}
			break
		}
		o.mark(id, true)
		err := c.send(work, id)
		o.mark(id, false)
		o.c.Changed(id)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// graceful is a context that ends a while after ctx does, so that a transaction under way can.
func graceful(ctx context.Context, grace time.Duration) (context.Context, func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(grace, cancel)
	})
	return work, func() {
		stop()
		cancel()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	}
}

func (o *Outbox) mark(id ID, sending bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if sending {
		o.sending[id] = true
	} else {
		delete(o.sending, id)
	}
}

// open sees to a session that can take a letter.
func (c *courier) open(ctx context.Context) error {
	if c.s != nil && c.s.Usable() && !c.s.Full() {
		return nil
	}
	c.quit(ctx)
	var err error
	c.s, err = c.o.c.Lines.SMTP(ctx, c.a)
	if err != nil {
		c.s = nil
	}
	return err
}

func (c *courier) quit(ctx context.Context) {
	if c.s == nil {
		return
	}
	if c.s.Usable() {
		ctx, cancel := context.WithTimeout(ctx, quitTimeout)
		defer cancel()
		if err := c.s.Quit(ctx); err != nil {
			c.o.c.Logger.Debug("a server did not say goodbye", "account", c.a.Address, "error", err)
		}
	}
	c.s.Close()
	c.s = nil
}

// server names where the account's mail goes, and as whom: what recognises letters knows them so.
func (c *courier) server() string {
	out := &c.a.Outgoing
	if out.Login == "" && !out.External {
		return "" // nobody in particular: no server recognises their letters
	}
	return out.Host + ":" + strconv.Itoa(int(out.Port)) + " " + out.Login
}

// maxTransactions bounds how often a letter is given to a server that takes few recipients at once.
const maxTransactions = 1000

// send gives one letter to the server: in one transaction, or in several where it takes few
// recipients at once.
func (c *courier) send(ctx context.Context, id ID) error {
	for range maxTransactions {
		r, ok, err := c.ready(ctx, id)
		if err != nil || !ok {
			return err
		}
		more, err := c.transact(ctx, r)
		if err != nil || !more {
			return err
		}
		if err := c.open(ctx); err != nil {
			return errors.Join(err, c.o.putOff(ctx, []ID{id}, err))
		}
	}
	return nil
}

// ready reads the letter, and settles what needs no server. ok is false when nobody waits any more.
func (c *courier) ready(ctx context.Context, id ID) (r row, ok bool, err error) {
	o := c.o
	if r, err = o.table.read(ctx, id); err != nil || r.state != active {
		return r, false, err
	}
	switch here, err := o.stays(ctx, &r); {
	case err != nil:
		return r, false, err
	case !here:
		return r, false, o.taken(ctx, &r)
	}
	if !r.unchecked {
		o.refuseDomains(ctx, &c.a, &r)
	}
	c.recognised(&r)
	if standing(r.recipients) != active {
		return r, false, o.settle(ctx, &r, "")
	}
	return r, true, nil
}

// recognised lets a person decide about copies that left before, where the server does not
// recognise them (any more).
func (c *courier) recognised(r *row) {
	now := c.o.micros()
	for i := range r.recipients {
		p := &r.recipients[i]
		if p.state != isWaiting || !p.again {
			continue
		}
		if c.s.Extensions().Repeats <= 0 || p.server == "" || p.server != c.server() || now >= p.left+p.keep-margin(p.keep) {
			p.state, p.again = isPerhaps, false
		}
	}
}

// margin is how long before its time a server's memory is not relied on, in microseconds.
func margin(keep int64) int64 { return min(time.Hour.Microseconds(), keep/4) }

// transact runs one mail transaction with all who wait, and settles its outcome. more says that
// the server takes the others in another one.
func (c *courier) transact(ctx context.Context, r row) (more bool, err error) {
	octets, size, err := c.o.c.Store.Octets(ctx, r.letter)
	if err != nil {
		return false, c.o.settleDamaged(ctx, &r, err)
	}
	if closer, ok := octets.(io.Closer); ok {
		defer closer.Close()
	}
	m := &smtpclient.Message{ReversePath: r.reverse, SMTPUTF8: r.utf8, Size: size, Return: r.giveBack, EnvelopeID: r.envelopeID,
		Open: func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(octets, 0, size)), nil }}
	if r.eightBit {
		m.Body = envelope.Body8BitMIME
	}
	var places []int
	for i, p := range r.recipients {
		if p.state == isWaiting {
			places = append(places, i)
			m.Recipients = append(m.Recipients, smtpclient.Recipient{ForwardPath: p.path, Notify: r.notify, Original: original(p.path)})
		}
	}
	keep := c.s.Extensions().Repeats.Microseconds()
	m.Commit = func() error { return c.o.leave(ctx, &r, places, keep, c.server()) }
	out, err := c.s.Send(ctx, m)
	var lacks *smtpclient.Unsupported
	if errors.As(err, &lacks) {
		return c.lower(ctx, &r, lacks)
	}
	if errors.Is(err, errUndone) {
		return false, nil
	}
	reason := c.judge(&r, places, out, err)
	if err := c.o.settle(ctx, &r, reason); err != nil {
		return false, err
	}
	return c.more(&r, places, out), c.report(err)
}

// report is what a caller should know of an error that has been settled.
func (c *courier) report(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("send mail of %s: %w", c.a.Address, err)
}

// original is the ORCPT of a recipient (RFC 3461 §4.2), by which a report can be told whose it is.
func original(path string) envelope.OriginalRecipient {
	for i := range len(path) {
		if path[i] >= 0x80 {
			return envelope.OriginalRecipient{Type: "utf-8", Address: path}
		}
	}
	return envelope.OriginalRecipient{Type: "rfc822", Address: path}
}

// leave notes, durably, that the letter's last octets leave now.
func (o *Outbox) leave(ctx context.Context, r *row, places []int, keep int64, server string) error {
	now := o.micros()
	var changed []copyRow
	err := o.table.db.Update(ctx, func(tx db.Tx) error {
		if n, err := tx.Exec(`UPDATE outgoing SET reason = '' WHERE id = ? AND state = 1`, int64(r.id)); err != nil || n == 0 {
			return errors.Join(err, errUndone)
		}
		var err error
		if changed, err = merge(tx, r); err != nil {
			return err
		}
		for _, i := range places {
			p := &changed[i]
			if p.state != isWaiting {
				return errUndone
			}
			p.state = isLeaving
			if !p.again {
				p.left, p.keep, p.server = now, keep, server
			} else {
				p.keep = min(p.keep, keep)
			}
		}
		return putCopies(tx, r.id, changed)
	})
	if err == nil {
		r.took(changed)
	}
	return err
}

// judge gives every recipient of a transaction what became of their copy, and says why the others wait.
func (c *courier) judge(r *row, places []int, out smtpclient.Outcome, err error) (reason string) {
	now := c.o.micros()
	var failed *smtpclient.Error
	lost := errors.As(err, &failed) && failed.Lost
	for k, i := range places {
		p := &r.recipients[i]
		var got smtpclient.RecipientOutcome
		if k < len(out.Recipients) {
			got = out.Recipients[k]
		}
		if got.Settled() {
			p.code, p.status, p.reply, p.at = int64(got.Reply.Code), status(got.Reply), db.Text(cut(got.Reply.Text, 1000)), now
		}
		switch {
		case got.Accepted:
			p.state, p.again = isSent, false
		case got.Settled() && got.Reply.Code/100 == 5:
			if p.state = isRefused; p.again { // this time; an earlier copy may have arrived
				p.state, p.again = isPerhaps, false
			}
		case got.Settled(): // put off: nobody has this copy, unless an earlier one
			if p.state = isWaiting; !got.Local {
				reason = "The server put it off: " + got.Reply.String()
			}
		case lost:
			p.state, p.again = isPerhaps, false
			if c.safe(p) {
				p.state, p.again = isWaiting, true
			}
			reason = "The connection was lost before the server confirmed the letter."
		default:
			p.state = isWaiting
			reason = sentence(err)
		}
	}
	return reason
}

// safe reports whether a copy that left may be sent again by itself.
func (c *courier) safe(p *copyRow) bool {
	return p.server != "" && p.keep > 0 && c.o.micros() < p.left+p.keep-margin(p.keep)
}

// more reports whether some are settled and the rest can go in another transaction (RFC 9422 §4.2).
func (c *courier) more(r *row, places []int, out smtpclient.Outcome) bool {
	progress, rest := false, false
	for k, i := range places {
		if k < len(out.Recipients) {
			progress = progress || r.recipients[i].state != isWaiting
			rest = rest || out.Recipients[k].Local && r.recipients[i].state == isWaiting
		}
	}
	return progress && rest
}
