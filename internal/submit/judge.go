package submit

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/message"
)

// originators are the fields that say who wrote and who sent a message.
type originators struct {
	from, sender             []string // values of every From and Sender field
	resentFrom, resentSender []string // of the newest resent block, the topmost
	date, messageID          bool
	malformed                string // first line that is no field
}

func read(header []byte) originators {
	var o originators
	for f := range message.Fields(header) {
		switch {
		case f.Malformed():
			if o.malformed == "" {
				o.malformed = f.Value()
			}
		case f.Is("From"):
			o.from = append(o.from, f.Value())
		case f.Is("Sender"):
			o.sender = append(o.sender, f.Value())
		case f.Is("Resent-From"):
			o.resentFrom = append(o.resentFrom, f.Value())
		case f.Is("Resent-Sender"):
			o.resentSender = append(o.resentSender, f.Value())
		case f.Is("Date"):
			o.date = true
		case f.Is("Message-ID"):
			o.messageID = true
		}
	}
	return o
}

// judge checks the originator fields of a submission and adds what is missing
// (RFC 6409 §8): From of the reverse-path, Date, Message-ID.
func (s *Service) judge(ctx context.Context, who sender, d *intake.Draft) error {
	o := read(d.Header)
	switch {
	case o.malformed != "":
		return intake.Refuse(550, 6, 0, fmt.Sprintf("The header section has a line that is no field: %.60q", o.malformed), nil)
	case len(o.from) > 1:
		return intake.Refuse(550, 6, 0, fmt.Sprintf("The message has %d From fields; exactly one is allowed", len(o.from)), nil)
	case len(o.sender) > 1:
		return intake.Refuse(550, 6, 0, fmt.Sprintf("The message has %d Sender fields; at most one is allowed", len(o.sender)), nil)
	case len(o.from) == 0 && d.Envelope.ReversePath.IsNull():
		return intake.Refuse(550, 6, 0, "The message has no From field and a null reverse-path; add From with your address", nil)
	}
	var err error
	switch {
	case len(o.resentFrom) > 0:
		err = s.judgeOriginator(ctx, who, "Resent-From", o.resentFrom[0], "Resent-Sender", first(o.resentSender))
	case len(o.from) > 0:
		err = s.judgeOriginator(ctx, who, "From", o.from[0], "Sender", first(o.sender))
	}
	if err != nil {
		return err
	}
	s.complete(d, o)
	return nil
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// judgeOriginator checks that every author is the sender's address, and so is the
// Sender that must be there beside several authors (RFC 5322 §3.6.2). One foreign
// author among them would be a forgery with a companion: programs show the first.
func (s *Service) judgeOriginator(ctx context.Context, who sender, field, value, senderField, senderValue string) error {
	authors, err := mailboxes(field, value)
	if err != nil {
		return err
	}
	if len(authors) > maxAuthors {
		return intake.Refuse(550, 6, 0, fmt.Sprintf("The %s field has more than %d addresses", field, maxAuthors), nil)
	}
	for _, a := range authors {
		if err := s.mayUse(ctx, who, a, field+" field"); err != nil {
			return err
		}
	}
	switch {
	case senderValue == "" && len(authors) == 1:
		return nil
	case senderValue == "":
		return intake.Refuse(550, 6, 0, fmt.Sprintf("The %s field has %d addresses, so a %s field must say which of them sends", field, len(authors), senderField), nil)
	}
	one, err := mailboxes(senderField, senderValue)
	if err != nil {
		return err
	}
	if len(one) != 1 {
		return intake.Refuse(550, 6, 0, fmt.Sprintf("The %s field must have exactly one address", senderField), nil)
	}
	return s.mayUse(ctx, who, one[0], senderField+" field")
}

// maxAuthors bounds the look-ups that one message can ask for.
const maxAuthors = 20

// mailboxes reads an originator field; it needs one address at least.
func mailboxes(field, value string) ([]address.Address, error) {
	list, err := message.ParseAddressList(value)
	if err != nil {
		return nil, intake.Refuse(550, 6, 0, "The "+field+" field can't be read; it must be like: Name <name@example.org>", err)
	}
	if len(list) == 0 {
		return nil, intake.Refuse(550, 6, 0, "The "+field+" field names no address", nil)
	}
	addrs := make([]address.Address, len(list))
	for i, m := range list {
		addrs[i] = m.Address
	}
	return addrs, nil
}

// complete adds the fields that every message must have.
func (s *Service) complete(d *intake.Draft, o originators) {
	if len(o.from) == 0 {
		d.Header = append(d.Header, "From: "+d.Envelope.ReversePath.Address().String()+"\r\n"...)
	}
	if !o.date {
		d.Header = message.AppendField(d.Header, "Date", message.FormatDate(d.Time))
	}
	if !o.messageID {
		d.Header = message.AppendField(d.Header, "Message-ID", message.NewMessageID(d.ID, s.c.Intake.Hostname()))
	}
}
