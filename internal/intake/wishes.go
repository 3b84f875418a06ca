package intake

import (
	"strings"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/post"
)

// What a message asks for on its way: to be held, to be in time, to go without TLS.

// hold plans a recipient of a message that is not to be released yet (RFC 4865): it
// waits in the queue, a mailbox here too, and Release routes it again.
func (t *Transaction) hold(r envelope.Recipient) error {
	if r.ForwardPath.IsPostmaster() { // the queue knows domains
		return Refuse(550, 1, 3, "A message that is held can't go to <Postmaster>; write the address with its domain", nil)
	}
	i := t.append(r, false)
	t.plan.remotes = append(t.plan.remotes, post.Remote{Recipient: i, ForwardPath: r.ForwardPath, ReversePath: r.ReversePath})
	return nil
}

// late refuses a message whose time was over before it had come in whole, if it is
// to be given back then (RFC 2852 §4).
func (t *Transaction) late() error {
	by := t.env.DeliverBy
	if by.Mode != envelope.ByReturn || t.in.c.Now().Before(by.Time) {
		return nil
	}
	return Refuse(554, 4, 7, "The time in which the message was to be delivered is over", nil)
}

// noteTLSRequired counts the TLS-Required fields of the message (RFC 8689 §3).
func (t *Transaction) noteTLSRequired(value string) {
	if strings.EqualFold(strings.TrimSpace(value), "no") {
		t.optional++
		return
	}
	t.optional += 2
}

// tlsOptional reports whether the message asks to be sent with TLS or without. One
// that requires TLS asks in vain (RFC 8689 §4.1), as does one with several such
// fields, which must not be (§3).
func (t *Transaction) tlsOptional() bool { return t.optional == 1 && !t.env.RequireTLS }
