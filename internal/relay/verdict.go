package relay

import (
	"errors"
	"strings"

	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// Fate is what a reply or a failure means for a recipient.
type Fate uint8

// The fates of an attempt.
const (
	Delivered Fate = 1 + iota // the host has taken responsibility
	PutOff                    // to be tried again
	Refused                   // for good
	Withdrawn                 // not attempted: given back as it was
)

// Clock says whose time a recipient that is put off waits by.
type Clock uint8

// The clocks.
const (
	OwnClock  Clock = iota // the recipient's own
	HostClock              // the host's: nobody's mail goes there before
)

// Verdict is what an outcome means. It is made by Judge and by JudgeError, pure functions:
//
//	where                          reply or failure      fate, clock
//	DNS                            per mx.Error          PutOff by the host's clock, or Refused
//	connect                        any failure           next address, next host; then PutOff, host
//	greeting, EHLO                 4xx, lost, timeout    next host; then PutOff, host
//	greeting, EHLO                 521, 556              next host; Refused when all say so (RFC 7504)
//	greeting, EHLO                 other 5xx             next host; then PutOff, host: it speaks of us,
//	                                                     not of the recipient, and often passes
//	STARTTLS, TLS                  any failure           without TLS where that is allowed; next host; PutOff, host
//	AUTH                           any                   PutOff, host: the password is ours to mend
//	a fixed host                   not in DNS, or 530    PutOff, host: so is the configuration
//	                               to 538 at MAIL
//	MAIL, RCPT, DATA, final dot    2xx at the end        Delivered
//	MAIL, RCPT, DATA, final dot    4xx but 421           PutOff, own clock
//	RCPT                           452, 552 behind an    again at once in a transaction of its own
//	                               accepted recipient    (RFC 5321 §4.5.3.1.10)
//	MAIL, RCPT, DATA, final dot    5xx                   Refused
//	anywhere                       421                   next host; then PutOff, host
//	MAIL, RCPT, DATA               lost, timeout         next host; then PutOff, host
//	mail data, final dot           lost, timeout         PutOff, own clock: it may be the message that
//	                                                     breaks the connection, and it may have arrived
//	MAIL, RCPT, DATA, greeting     refused for our       the fallback route, where there is one
//	                               reputation
type Verdict struct {
	Fate  Fate
	Clock Clock
	// Next: another host of the destination is worth trying at once.
	Next bool
	// Again: the next transaction of the same session is worth trying at once.
	Again bool
	// Slow: the host is in trouble and gets fewer connections.
	Slow bool
	// Reputation: it is us who are refused, not the message or the recipient.
	Reputation bool
	// Lost: the message may have been delivered although no reply came.
	Lost  bool
	Reply smtp.Reply // what the host said, or what we say in its place
	// Ours: Reply is ours, not the host's words.
	Ours bool
}

// Judge says what a host's reply at a stage means. others says that the transaction had
// recipients who were accepted.
func Judge(stage smtpclient.Stage, r smtp.Reply, others bool) Verdict {
	v := Verdict{Reply: r, Reputation: reputation(stage, r)}
	class := r.Code / 100
	switch {
	case class == 2 && stage == smtpclient.StageFinal:
		v.Fate = Delivered
	case stage <= smtpclient.StageHello:
		v.Fate, v.Clock, v.Next, v.Slow = PutOff, HostClock, true, true
		if r.Code == 521 || r.Code == 556 { // RFC 7504 §3
			v.Fate = Refused
		}
	case stage <= smtpclient.StageAuth:
		v.Fate, v.Clock, v.Next = PutOff, HostClock, stage != smtpclient.StageAuth
	case r.Code == 421: // RFC 5321 §3.8
		v.Fate, v.Clock, v.Next, v.Slow = PutOff, HostClock, true, true
	case stage == smtpclient.StageRcpt && (r.Code == 452 || r.Code == 552) && others: // RFC 5321 §4.5.3.1.10
		v.Fate, v.Again = PutOff, true
	case stage == smtpclient.StageRcpt && r.Code == 552: // taken for 452 there too
		v.Fate = PutOff
		if r.Subject == 2 || r.Subject == 3 { // a mailbox or a system that says it is full, by RFC 3463
			v.Fate = Refused
		}
	case class == 5:
		v.Fate = Refused
	default: // 4xx, and what has no place there
		v.Fate = PutOff
	}
	return v
}

// ofFixed changes a verdict over a host that our own configuration names: what is wrong with
// the configuration must not return people's mail.
func (v Verdict) ofFixed(stage smtpclient.Stage) Verdict {
	if v.Fate == Refused && stage == smtpclient.StageMail && v.Reply.Code >= 530 && v.Reply.Code <= 538 { // RFC 4954 §6
		v.Fate, v.Clock = PutOff, HostClock
	}
	return v
}

// reputation tells refusals of us from those of a message or a recipient: before the
// mail data, with the enhanced codes of policy, or with the words that block lists use.
func reputation(stage smtpclient.Stage, r smtp.Reply) bool {
	if r.Code/100 < 4 || stage > smtpclient.StageData {
		return false
	}
	if stage <= smtpclient.StageHello {
		return r.Code/100 == 5 || blockWords(r.Text)
	}
	policy := r.Subject == 7 && (r.Detail == 0 || r.Detail == 1 || r.Detail >= 23 && r.Detail <= 27)
	if stage == smtpclient.StageMail {
		return policy || blockWords(r.Text)
	}
	return (policy || r.Subject == 0) && blockWords(r.Text)
}

// blockWords looks for what refusals of a client's address have in common.
func blockWords(text string) bool {
	text = strings.ToLower(text)
	for _, word := range []string{"block list", "blocklist", "blacklist", "block-list", "black list", "dnsbl", " rbl", "spamhaus", "spamcop", "barracuda", "reputation",
		"blocked using", "ip address is blocked", "listed at", "dynamic ip", "dial-up", "residential", "ptr record", "reverse dns", "rdns"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// JudgeError says what a failed step of a session means for the recipients who
// got no reply.
func JudgeError(err error) Verdict {
	if e, ok := errors.AsType[*smtpclient.Error](err); ok {
		return judgeSession(e)
	}
	if e, ok := errors.AsType[*mx.Error](err); ok {
		v := Verdict{Fate: PutOff, Clock: HostClock, Reply: e.Reply, Ours: true}
		if e.Permanent() {
			v.Fate, v.Clock = Refused, OwnClock
		}
		return v
	}
	if e, ok := errors.AsType[*smtp.Error](err); ok { // TLS policy, REQUIRETLS
		v := Verdict{Fate: PutOff, Clock: HostClock, Next: true, Reply: e.Reply, Ours: true}
		if e.Reply.Code >= 500 {
			v.Fate, v.Clock = Refused, OwnClock
		}
		return v
	}
	// RFC 3463: 4.4.1, no answer from host.
	return Verdict{Fate: PutOff, Clock: HostClock, Next: true, Slow: true, Ours: true,
		Reply: smtp.Reply{Code: 451, Subject: 4, Detail: 1, Text: "The host can't be reached: " + err.Error()}}
}

func judgeSession(e *smtpclient.Error) Verdict {
	switch {
	case errors.Is(e, ErrLease):
		return Verdict{Fate: Withdrawn}
	case e.Local:
		return Verdict{Fate: PutOff, Ours: true, Reply: smtp.Reply{Code: 451, Subject: 3, Text: "The message can't be read here at present"}}
	case e.Reply != nil:
		v := Judge(e.Stage, *e.Reply, false)
		if v.Fate == Delivered || v.Fate == Refused && e.Err != nil { // a reply that does not fit
			v = Verdict{Fate: PutOff, Clock: HostClock, Next: true, Slow: true, Reply: *e.Reply}
			if e.Stage == smtpclient.StageBody || e.Stage == smtpclient.StageFinal {
				v.Clock, v.Next, v.Lost = OwnClock, false, e.Lost
			}
		}
		return v
	}
	v := Verdict{Fate: PutOff, Clock: HostClock, Next: true, Slow: true, Ours: true,
		Reply: smtp.Reply{Code: 451, Subject: 4, Detail: 2, Text: "The connection failed " + e.Error()}}
	switch {
	case e.Stage == smtpclient.StageTLS, e.Stage == smtpclient.StageStartTLS:
		v.Reply.Subject, v.Reply.Detail, v.Slow = 7, 5, false
	case e.Stage == smtpclient.StageBody || e.Stage == smtpclient.StageFinal || e.Lost:
		v.Clock, v.Next, v.Lost = OwnClock, false, e.Lost
	}
	return v
}
