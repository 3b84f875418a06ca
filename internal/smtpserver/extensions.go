package smtpserver

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
)

// Extensions are offered beside those that every session gets. Each may be turned
// on only where what stands behind the Service honours it to the end; the zero
// value offers none.
type Extensions struct {
	// RequireTLS is REQUIRETLS, offered under TLS (RFC 8689).
	RequireTLS bool
	// FutureRelease is the longest time that a message may be held, in whole seconds
	// (RFC 4865); 0 does not offer it. For submission only.
	FutureRelease time.Duration
	// DeliverBy is DELIVERBY (RFC 2852); MinDeliverBy is the least time of a message
	// that is to be given back when it is over.
	DeliverBy    bool
	MinDeliverBy time.Duration
	// Priority is MT-PRIORITY under the policy MIXER (RFC 6710 Appendix B).
	// HighestPriority is what a client that has authenticated may ask for, at most
	// envelope.MaxPriority; others get at most 0 (RFC 6710 §4.1).
	Priority        bool
	HighestPriority int
	// XVERP is Postfix's request for a reverse-path of each recipient's own. For submission
	// only: whoever may use it must be known.
	XVERP bool
	// Repeats is how long the Service recognises a letter that an authenticated account hands in
	// again, in whole seconds (smtp.RepeatsKeyword); 0 does not offer it. For submission only.
	Repeats time.Duration
}

// validate reports what is wrong with e.
func (e *Extensions) validate(wrong func(format string, args ...any)) {
	switch {
	case e.FutureRelease < 0, e.FutureRelease%time.Second != 0, e.FutureRelease/time.Second > maxHoldSeconds:
		wrong("smtpserver: the longest future release is %v; it must be whole seconds, at most %d", e.FutureRelease, maxHoldSeconds)
	case e.Repeats < 0, e.Repeats%time.Second != 0, e.Repeats/time.Second > maxHoldSeconds:
		wrong("smtpserver: letters are recognised for %v; it must be whole seconds, at most %d", e.Repeats, maxHoldSeconds)
	case e.MinDeliverBy < 0, e.MinDeliverBy%time.Second != 0:
		wrong("smtpserver: the least time of DELIVERBY is %v; it must be whole seconds", e.MinDeliverBy)
	case e.HighestPriority < 0 || e.HighestPriority > envelope.MaxPriority:
		wrong("smtpserver: the highest priority is %d; it must be from 0 to %d", e.HighestPriority, envelope.MaxPriority)
	}
}

// maxHoldSeconds is the most that HOLDFOR can say (RFC 4865: nine digits).
const maxHoldSeconds = 999999999

// fixedOffer are the lines that are the same for every session.
func (e *Extensions) fixedOffer() string {
	text := ""
	switch {
	case e.DeliverBy && e.MinDeliverBy > 0:
		text = fmt.Sprintf("\nDELIVERBY %d", e.MinDeliverBy/time.Second)
	case e.DeliverBy:
		text = "\nDELIVERBY"
	}
	if e.Priority {
		text += "\nMT-PRIORITY MIXER"
	}
	if e.XVERP {
		text += "\nXVERP"
	}
	if e.Repeats > 0 {
		text += fmt.Sprintf("\n%s %d", smtp.RepeatsKeyword, e.Repeats/time.Second)
	}
	return text
}

// offer adds the lines that depend on the session.
func (e *Extensions) offer(b *strings.Builder, s *session) {
	if e.RequireTLS && s.facts.tls != nil {
		b.WriteString("\nREQUIRETLS")
	}
	if e.FutureRelease > 0 {
		fmt.Fprintf(b, "\nFUTURERELEASE %d %s", e.FutureRelease/time.Second, time.Now().Add(e.FutureRelease).UTC().Format(time.RFC3339))
	}
	if s.startsQueues() {
		b.WriteString("\nETRN")
	}
}

// params are the extensions of e whose parameters MAIL may carry. REQUIRETLS is
// known without TLS too: who asks for it hears what is missing.
func (e *Extensions) params() smtp.Extensions {
	var ext smtp.Extensions
	if e.RequireTLS {
		ext |= smtp.ExtRequireTLS
	}
	if e.FutureRelease > 0 {
		ext |= smtp.ExtFutureRelease
	}
	if e.DeliverBy {
		ext |= smtp.ExtDeliverBy
	}
	if e.Priority {
		ext |= smtp.ExtPriority
	}
	if e.XVERP {
		ext |= smtp.ExtXVERP
	}
	return ext
}

// promise puts what MAIL asked for into the envelope, or refuses what can't be kept.
func (e *Extensions) promise(m *smtp.Mail, env *envelope.Envelope, secure bool) error {
	now := env.Origin.Time
	if m.RequireTLS && !secure { // RFC 8689 §2: only in a session that employs TLS
		return smtp.Refuse(530, 7, 10, "REQUIRETLS needs TLS, send STARTTLS first")
	}
	env.RequireTLS, env.VERP = m.RequireTLS, m.VERP
	switch {
	case m.HoldFor > 0:
		env.HoldUntil = now.Add(m.HoldFor)
	case !m.HoldUntil.IsZero() && !m.HoldUntil.After(now):
		return smtp.Refuse(554, 5, 4, "The time of HOLDUNTIL is over")
	default:
		env.HoldUntil = m.HoldUntil
	}
	if !env.HoldUntil.IsZero() && env.HoldUntil.After(now.Add(e.FutureRelease)) {
		return smtp.Refuse(554, 5, 4, fmt.Sprintf("A message is held for %d seconds at most", e.FutureRelease/time.Second))
	}
	if m.By.Mode != envelope.ByUndeclared {
		return e.promiseBy(m.By, env)
	}
	return nil
}

// promiseBy takes BY. A message to be given back needs the least time that was
// offered (RFC 2852 §4), and one that is held too can't be late before it is sent.
func (e *Extensions) promiseBy(by smtp.By, env *envelope.Envelope) error {
	env.DeliverBy = envelope.DeliverBy{Mode: by.Mode, Time: env.Origin.Time.Add(by.Time), Trace: by.Trace}
	switch {
	case by.Mode != envelope.ByReturn:
	case by.Time < e.MinDeliverBy:
		return smtp.Refuse(555, 5, 4, fmt.Sprintf("BY with mode R needs %d seconds at least", e.MinDeliverBy/time.Second))
	case !env.HoldUntil.IsZero() && !env.DeliverBy.Time.After(env.HoldUntil):
		return smtp.Refuse(501, 5, 4, "The time of BY would be over before the message is released")
	}
	return nil
}

// rank sets the envelope's priority. The reply is that of MAIL, which says when
// less was given than was asked for (RFC 6710 §4.1).
func (e *Extensions) rank(m *smtp.Mail, env *envelope.Envelope, who sasl.Identity) smtp.Reply {
	most := 0
	if who != (sasl.Identity{}) {
		most = e.HighestPriority
	}
	env.Priority = min(m.Priority, most)
	if env.Priority < m.Priority {
		return smtp.Reply{Code: 250, Subject: 3, Detail: 6, Text: strconv.Itoa(env.Priority) + " is the highest priority that you may give"}
	}
	return smtp.Reply{Code: 250, Subject: 1, Detail: 0, Text: "Ok"}
}
