package relay

import (
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/smtp"
)

// ParseStatus is parseStatus.
func ParseStatus(s string) smtp.Reply { return parseStatus(s) }

// Signatures is signatures of the author's domain.
func Signatures(header []byte) (author string, ours bool, foreign string) {
	author = authorDomain(header)
	ours, foreign = signatures(header, author)
	return author, ours, foreign
}

// Matches is Route.matches.
func Matches(r *Route, m *queue.Message, domain address.Domain) bool { return r.matches(m, domain) }
