package smtpclient

import "time"

// The timeouts of RFC 5321 §4.5.3.2, for one reply or one block each, and our own
// where it names none.
const (
	GreetingTimeout    = 5 * time.Minute  // RFC 5321 §4.5.3.2.1
	MailTimeout        = 5 * time.Minute  // RFC 5321 §4.5.3.2.2
	RcptTimeout        = 5 * time.Minute  // RFC 5321 §4.5.3.2.3
	DataTimeout        = 2 * time.Minute  // RFC 5321 §4.5.3.2.4
	BlockTimeout       = 3 * time.Minute  // RFC 5321 §4.5.3.2.5
	FinalTimeout       = 10 * time.Minute // RFC 5321 §4.5.3.2.6
	HelloTimeout       = 5 * time.Minute  // EHLO, HELO, LHLO, RSET and each step of AUTH
	TLSTimeout         = 2 * time.Minute  // STARTTLS' reply and, once more, the handshake
	QuitTimeout        = 10 * time.Second // nothing depends on the reply to QUIT
	TransactionTimeout = 30 * time.Minute // all commands of a transaction, before its data
	// MinRate is the least speed, in octets a second, at which a server must take mail
	// data, beyond BlockTimeout: it bounds what a peer that reads drop by drop can hold.
	MinRate = 512
)

// Timeouts are a session's; a zero field means the constant of its name.
type Timeouts struct {
	Greeting, Hello, TLS, Mail, Rcpt, Data, Block, Final, Quit time.Duration
	Transaction                                                time.Duration
	MinRate                                                    int // octets a second
}

func (t Timeouts) withDefaults() Timeouts {
	def := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	def(&t.Greeting, GreetingTimeout)
	def(&t.Hello, HelloTimeout)
	def(&t.TLS, TLSTimeout)
	def(&t.Mail, MailTimeout)
	def(&t.Rcpt, RcptTimeout)
	def(&t.Data, DataTimeout)
	def(&t.Block, BlockTimeout)
	def(&t.Final, FinalTimeout)
	def(&t.Quit, QuitTimeout)
	def(&t.Transaction, TransactionTimeout)
	if t.MinRate <= 0 {
		t.MinRate = MinRate
	}
	return t
}

// of returns the time for a reply or a block at the stage.
func (t *Timeouts) of(stage Stage) time.Duration {
	switch stage {
	case StageGreeting:
		return t.Greeting
	case StageStartTLS, StageTLS:
		return t.TLS
	case StageMail:
		return t.Mail
	case StageRcpt:
		return t.Rcpt
	case StageData:
		return t.Data
	case StageBody:
		return t.Block
	case StageFinal:
		return t.Final
	case StageQuit:
		return t.Quit
	}
	return t.Hello
}
