package obs

import (
	"crypto/tls"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
	"poczta.example/poczta/internal/submit"
)

// SMTP returns the hooks of a service that speaks SMTP or LMTP.
func (m *Metrics) SMTP(service string) smtpserver.Hooks {
	open, total := m.sessions.with(service), m.sessionsTotal.with(service)
	octets, seconds := m.messageOctets.with(service), m.dataSeconds.with(service)
	return smtpserver.Hooks{
		Opened:  func() { open.inc(); total.inc() },
		Closed:  func(time.Duration) { open.add(-1) },
		Refused: func(why string) { m.refused.with(service, why).inc() },
		Replied: func(v smtp.Verb, code int) { m.commands.with(service, v.String(), class(code)).inc() },
		Secured: func(version uint16, _ time.Duration) {
			m.handshakes.with(service, tls.VersionName(version)).inc()
		},
		Message: func(n int64, code int, took time.Duration) {
			m.messages.with(service, class(code)).inc()
			octets.add(float64(n))
			seconds.observe(took.Seconds())
		},
	}
}

// class is a reply code's first digit, as in "2xx".
func class(code int) string { return strconv.Itoa(code/100) + "xx" }

// POP3 returns the hooks of the POP3 service.
func (m *Metrics) POP3(service string) pop3server.Hooks {
	open, total := m.sessions.with(service), m.sessionsTotal.with(service)
	messages, octets := m.retrieved.with("messages"), m.retrieved.with("octets")
	var commands [pop3.NumVerbs][2]atomic.Pointer[figure] // found once: there are many commands a second
	return pop3server.Hooks{
		SessionBegin: func() { open.inc(); total.inc() },
		SessionEnd:   func(time.Duration, int64, int64) { open.add(-1) },
		Refused:      func(reason string) { m.refused.with(service, reason).inc() },
		TLS: func(version, _ uint16) {
			m.handshakes.with(service, tls.VersionName(version)).inc()
		},
		Command: func(v pop3.Verb, ok bool, _ time.Duration) {
			reply, i := "-ERR", 0
			if ok {
				reply, i = "+OK", 1
			}
			f := commands[v][i].Load()
			if f == nil {
				f = m.commands.with(service, v.String(), reply)
				commands[v][i].Store(f)
			}
			f.inc()
		},
		Retrieved: func(n int64, _ time.Duration) { messages.inc(); octets.add(float64(n)) },
		Removed: func(n int, err error) {
			result := "ok"
			if err != nil {
				result = "failed"
			}
			m.deleted.with(result).add(float64(n))
		},
	}
}

// Accounts returns the hooks of package account.
func (m *Metrics) Accounts() account.Hooks {
	return account.Hooks{
		Login: func(protocol, mechanism, result string) {
			m.logins.with(protocol, strings.ToLower(mechanism), result).inc()
		},
		Hashed: func(_, took time.Duration) { m.hashing.observe(took.Seconds()) },
	}
}

// Body returns the hooks of the body store.
func (m *Metrics) Body() body.Hooks {
	return body.Hooks{
		Flushed: func(records int, _ int64, took time.Duration) {
			m.groupRecords.observe(float64(records))
			m.groupSeconds.observe(took.Seconds())
		},
		Staged: func(n int64) { m.stagedOctets.set(float64(n)) },
		Failed: func(string, error) { m.segmentFails.inc() },
		Merged: func(n int64) { m.mergedOctets.add(float64(n)) },
	}
}

// Mailboxes returns the hooks of package mailbox.
func (m *Metrics) Mailboxes() mailbox.Hooks {
	memory, database := m.listing.with("memory"), m.listing.with("database")
	return mailbox.Hooks{
		ListingHit:   func() { memory.inc() },
		ListingLoad:  func(int) { database.inc() },
		ListingBytes: func(n int64) { m.listingOctets.set(float64(n)) },
		Removed:      func(n int) { m.retention.with("removed").add(float64(n)) },
		Purged:       func(n int) { m.retention.with("purged").add(float64(n)) },
	}
}

// Queue returns the hooks of package queue.
func (m *Metrics) Queue() queue.Hooks {
	return queue.Hooks{
		Enqueued: func(n int) { m.queued.with("entered").add(float64(n)) },
		Removed:  func(n int) { m.queued.with("removed").add(float64(n)) },
		Settled:  func(o queue.Outcome, n int) { m.queued.with(o.String()).add(float64(n)) },
	}
}

// Submission returns the hooks of package submit.
func (m *Metrics) Submission() submit.Hooks {
	yes, no := m.signed.with("signed"), m.signed.with("no_key")
	return submit.Hooks{Signed: func(signed bool) {
		if signed {
			yes.inc()
			return
		}
		no.inc()
	}}
}

// Keys returns the hooks of package keys.
func (m *Metrics) Keys() keys.Hooks {
	return keys.Hooks{Moved: func(to keys.Stage, n int) { m.keysMoved.with(to.String()).add(float64(n)) }}
}

// Post returns the hooks of package post.
func (m *Metrics) Post() post.Hooks {
	return post.Hooks{
		Accepted: func(messages int, octets int64, took time.Duration) {
			m.accepted.add(float64(messages))
			m.acceptOctets.add(float64(octets))
			m.acceptSeconds.observe(took.Seconds())
		},
		Refused: func(error) { m.acceptErrors.inc() },
	}
}

// Postgres returns the hooks of the PostgreSQL engine.
func (m *Metrics) Postgres() db.PostgresHooks {
	update, view := m.dbSeconds.with("postgresql", "update"), m.dbSeconds.with("postgresql", "view")
	return db.PostgresHooks{
		Update: func(took time.Duration, _ int) { update.observe(took.Seconds()) },
		View:   func(took time.Duration) { view.observe(took.Seconds()) },
	}
}
