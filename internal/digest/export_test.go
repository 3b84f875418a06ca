package digest

import (
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Of tests.
var (
	Line  = line
	Clean = clean
)

// Languages are all.
func Languages() []any { return []any{english, polish} }

// ParseToken reads a token of any purpose.
func ParseToken(s string, key []byte, now time.Time) (envelope.AccountID, message.ID, string, error) {
	t, err := parseToken(s, key, now, forWeb, forMail, forStop)
	if err != nil {
		return 0, message.ID{}, "", err
	}
	return t.account, t.id, t.text(key), nil
}

// Verbs counts the commands of a mail.
func Verbs(header []byte, text string) int { return len(verbs(header, text)) }
