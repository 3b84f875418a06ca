package intake

import (
	"errors"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/smtp"
)

// Refuse makes a refusal: reply code, subject and detail of the enhanced status
// (RFC 3463), what the peer may read, and the cause for the log (nil for none).
func Refuse(code, subject, detail int, text string, cause error) *smtp.Error {
	return &smtp.Error{Reply: smtp.Reply{Code: code, Subject: subject, Detail: detail, Text: text}, Err: cause}
}

// refusal turns an error of reading, staging or accepting into what the peer
// reads. Unknown causes stay as they are: the server answers 451 4.3.0.
func refusal(err error) error {
	var known *smtp.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, body.ErrTooLarge):
		return Refuse(552, 3, 4, "Message exceeds the size limit", err)
	case errors.Is(err, body.ErrBudget):
		return Refuse(452, 3, 1, "Too much mail at once; try again later", err)
	case errors.Is(err, body.ErrFull), errors.Is(err, post.ErrFull), errors.Is(err, db.ErrFull):
		return Refuse(452, 3, 1, "No space left for mail; try again later", err)
	case errors.Is(err, body.ErrFailed):
		return Refuse(451, 3, 0, "Mail could not be stored; try again later", err)
	}
	return err
}
