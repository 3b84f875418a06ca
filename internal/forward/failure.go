package forward

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/srs"
)

var _ relay.Forwards = (*Forwarding)(nil)

// Failed implements relay.Forwards: it counts the failure, tells the owner of the forward,
// and lets the sender be told when they submitted the message here. When it can't, nobody
// may be told by a report.
func (f *Forwarding) Failed(ctx context.Context, m *queue.Message, r *queue.Recipient, status string) (relay.Decision, error) {
	decision := relay.TellNobody
	verified := m.Ours || m.Account != 0
	if verified && m.ReversePath != "" {
		decision = relay.TellSender
	}
	x, ok := caseOf(r.Forward, r.ForwardPath)
	if !ok { // a report on its way back
		return decision, nil
	}
	if f.c.Hooks.Failed != nil {
		f.c.Hooks.Failed()
	}
	x.status, x.from = status, m.ReversePath
	suspended, err := f.fail(ctx, x)
	if err == nil && (suspended || decision == relay.TellNobody) {
		err = f.notice(ctx, x, suspended)
	}
	if err != nil && decision == relay.TellSender { // the sender hears of it; the owner later
		f.c.Logger.Error("failure of a forward is not counted", "forward", r.Forward, "target", r.ForwardPath, "error", err)
		return decision, nil
	}
	return decision, err
}

// Succeeded implements relay.Forwards: failures before are forgotten.
func (f *Forwarding) Succeeded(ctx context.Context, _ *queue.Message, r *queue.Recipient) {
	x, ok := caseOf(r.Forward, r.ForwardPath)
	if !ok {
		return
	}
	err := f.c.DB.View(ctx, func(tx db.Tx) error {
		var n int64
		return tx.QueryRow(`SELECT failures FROM forward_failure WHERE source = ? AND target = ? AND failures > 0`, x.source, x.target.Key()).Scan(&n)
	})
	if err == nil {
		err = f.clear(ctx, x)
	}
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		f.c.Logger.Error("success of a forward is not noted", "forward", x.source, "target", x.target.String(), "error", err)
	}
}

// clear sets the count back.
func (f *Forwarding) clear(ctx context.Context, x failure) error {
	return f.c.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`UPDATE forward_failure SET failures = 0 WHERE source = ? AND target = ?`, x.source, x.target.Key())
		return err
	})
}

// Return is a report about a forwarded copy that came back to an SRS address.
type Return struct {
	To     address.ForwardPath // the SRS address
	Sender string              // reverse-path of the message that the report is about
	// Written is what the sender wrote; Target where the copy went.
	Written, Target string
	Status          string
}

// Returned counts a failure that came back as a report, after the target's host had taken
// the message. The owner has got the report itself. A report is believed as to the forward
// whose copy had that SRS address and no other. Errors are temporary.
func (f *Forwarding) Returned(ctx context.Context, back Return) error {
	s, err := f.reverse(ctx, back.To.Address())
	if errors.Is(err, account.ErrUnknownUser) {
		return nil
	}
	if err != nil {
		return err
	}
	if from, err := address.Parse(back.Sender); err != nil || from.Key() != s.Address.Key() {
		return nil
	}
	source := back.Written // an alias
	if s.Owner != 0 {
		acc, err := f.c.Owners.ByID(ctx, envelope.AccountID(s.Owner))
		if errors.Is(err, account.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		source = acc.Address.String()
	}
	x, ok := caseOf(source, back.Target)
	if !ok {
		return nil
	}
	x.status = back.Status
	suspended, err := f.fail(ctx, x)
	if err == nil && suspended {
		err = f.notice(ctx, x, true)
	}
	return err
}

// failure is a copy that failed.
type failure struct {
	source string // alias or account
	alias  account.Alias
	target address.Address
	status string
	from   string // reverse-path of the message, "" for none
}

// caseOf reads what queue and trace have; ok is false for what is no forward of anybody.
func caseOf(source, target string) (failure, bool) {
	alias, err1 := account.ParseAlias(source)
	to, err2 := address.Parse(target)
	if err1 != nil || err2 != nil || !alias.Source.IsZero() && srs.Is(alias.Source) {
		return failure{}, false
	}
	return failure{source: source, alias: alias, target: to}, true
}

// fail counts a failure of the target and suspends it when that was one too many.
func (f *Forwarding) fail(ctx context.Context, x failure) (suspended bool, err error) {
	failures, err := f.count(ctx, x)
	if err != nil || failures < MaxFailures {
		return false, err
	}
	suspended, err = f.c.Owners.SuspendForward(ctx, x.source, x.target, x.status)
	if err != nil {
		return false, fmt.Errorf("suspend forward of %s: %w", x.source, err)
	}
	if !suspended { // it is no target any more
		return false, f.clear(ctx, x)
	}
	f.c.Logger.Warn("forward suspended", "forward", x.source, "target", x.target.String(), "failures", failures, "status", x.status)
	if f.c.Hooks.Suspended != nil {
		f.c.Hooks.Suspended()
	}
	return true, f.clear(ctx, x)
}

// count adds a failure and returns how many there are in the window.
func (f *Forwarding) count(ctx context.Context, x failure) (failures int64, err error) {
	now := f.c.Now()
	one := int64(1)
	if aboutMessage(x.status) {
		one = 0
	}
	began := db.Micros(now.Add(-Window))
	err = f.c.DB.Update(ctx, func(tx db.Tx) error {
		for _, old := range []string{`DELETE FROM forward_failure WHERE last < ?`, `DELETE FROM forward_notice WHERE noticed < ?`} {
			if _, err := tx.Exec(old, db.Micros(now.Add(-keepFailure))); err != nil {
				return err
			}
		}
		return tx.QueryRow(`INSERT INTO forward_failure (source, target, failures, since, last) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (source, target) DO UPDATE SET last = excluded.last,
				failures = CASE WHEN forward_failure.failures = 0 OR forward_failure.since < ? THEN excluded.failures ELSE forward_failure.failures + excluded.failures END,
				since = CASE WHEN forward_failure.failures = 0 OR forward_failure.since < ? THEN excluded.since ELSE forward_failure.since END
			RETURNING failures`, x.source, x.target.Key(), one, db.Micros(now), db.Micros(now), began, began).Scan(&failures)
	})
	if err != nil {
		return 0, fmt.Errorf("count failure of forward %s: %w", x.source, err)
	}
	return failures, nil
}

// aboutMessage reports a status that speaks of the message and not of the target: its
// content (X.6), the policy it met (X.7), or its size (X.3.4). A mailbox that gets more
// spam than mail would be suspended otherwise.
func aboutMessage(status string) bool {
	for word := range strings.FieldsSeq(status) {
		if len(word) >= 5 && (word[0] == '4' || word[0] == '5') && word[1] == '.' {
			return strings.HasPrefix(word[2:], "6.") || strings.HasPrefix(word[2:], "7.") || word[2:] == "3.4"
		}
	}
	return false
}

// errNoticed ends the transaction of a notice that another has sent.
var errNoticed = errors.New("a notice was sent lately")

// claimNotice says, in the transaction of a notice, that it is the one of the day.
func (f *Forwarding) claimNotice(tx db.Tx, x failure, always bool) error {
	now := f.c.Now()
	since := db.Micros(now.Add(-NoticeEvery))
	if always {
		since = db.Micros(now.Add(1000 * time.Hour))
	}
	n, err := tx.Exec(`INSERT INTO forward_notice (source, noticed) VALUES (?, ?)
		ON CONFLICT (source) DO UPDATE SET noticed = excluded.noticed WHERE forward_notice.noticed <= ?`, x.source, db.Micros(now), since)
	if err == nil && n == 0 {
		err = errNoticed
	}
	return err
}

// noticedLately reports whether the owner was told of a failure within NoticeEvery.
func (f *Forwarding) noticedLately(ctx context.Context, x failure) (bool, error) {
	var n int64
	err := f.c.DB.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM forward_notice WHERE source = ? AND noticed > ?`, x.source, db.Micros(f.c.Now().Add(-NoticeEvery))).Scan(&n)
	})
	return n > 0, err
}
