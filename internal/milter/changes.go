package milter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
)

// end says that the message is whole and reads the changes up to the decision.
func (s *session) end() error {
	s.k.deadline(s.ctx, time.Now().Add(s.c.cfg.Reply))
	s.say(stageEnd, nil)
	for {
		cmd, data, err := s.hear(s.c.cfg.End)
		if err != nil {
			return err
		}
		change, err := s.change(cmd, data)
		if err != nil {
			return err
		}
		if change {
			if len(s.result.Changes) > s.c.cfg.MaxChanges {
				return fmt.Errorf("%w: more than %d changes", ErrProtocol, s.c.cfg.MaxChanges)
			}
			continue
		}
		done, err := s.decided(cmd, data)
		if err != nil {
			return err
		}
		s.whole = !done
		return s.finish(done)
	}
}

// finish makes the result of what was said at the end.
func (s *session) finish(done bool) error {
	if s.body != nil {
		if err := s.repair.close(); err != nil {
			return fmt.Errorf("writing the new body: %w", err)
		}
		s.result.Changes = append(s.result.Changes, Change{Kind: ReplaceBody, Body: s.body, Size: s.repair.written})
	}
	if s.result.Reason != "" && s.result.Action == Accept {
		s.result.Action = Quarantine
	}
	if done && s.result.Action > Quarantine {
		s.result.Changes, s.result.Reason, s.result.Recipients = nil, "", nil
	}
	return nil
}

// needed is the offer that each kind of change rests on.
func needed(cmd byte) (action, bool) {
	switch cmd {
	case rplAddHeader:
		return actAddHeaders, true
	case rplInsHeader:
		return actAddHeaders | actChangeHeaders, true // libmilter asks for the first
	case rplChgHeader:
		return actChangeHeaders, true
	case rplAddRcpt:
		return actAddRcpt, true
	case rplAddRcptPar:
		return actAddRcptPar, true
	case rplDelRcpt:
		return actDelRcpt, true
	case rplChgFrom:
		return actChangeFrom, true
	case rplReplBody:
		return actChangeBody, true
	case rplQuarantine:
		return actQuarantine, true
	}
	return 0, false
}

// change reads a reply that asks for a change; false when it is none.
func (s *session) change(cmd byte, data []byte) (bool, error) {
	need, is := needed(cmd)
	if !is {
		return false, nil
	}
	if s.k.actions&need == 0 {
		return false, fmt.Errorf("%w: it asks for the change %s, which it did not negotiate", ErrProtocol, quoteCmd(cmd))
	}
	var err error
	switch cmd {
	case rplAddHeader, rplInsHeader, rplChgHeader:
		err = s.changeHeader(cmd, data)
	case rplAddRcpt, rplAddRcptPar, rplDelRcpt, rplChgFrom:
		err = s.changeEnvelope(cmd, data)
	case rplReplBody:
		if err := s.changeBody(data); err != nil {
			return true, err // of our own side, or ErrProtocol already
		}
	case rplQuarantine:
		var text []string
		if text, err = stringsOf(data, 1, 1); err == nil {
			s.result.Reason = clip(text[0], 200)
			if s.result.Reason == "" {
				s.result.Reason = "no reason given"
			}
		}
	}
	if err != nil {
		return true, fmt.Errorf("%w: %s: %w", ErrProtocol, quoteCmd(cmd), err)
	}
	return true, nil
}

func (s *session) changeHeader(cmd byte, data []byte) error {
	c := Change{Kind: AddHeader}
	if cmd != rplAddHeader {
		if len(data) < 4 {
			return errPacket
		}
		n := binary.BigEndian.Uint32(data)
		if n > math.MaxInt32 {
			return fmt.Errorf("index %d", n)
		}
		c.Kind, c.Index, data = ChangeHeader, int(n), data[4:]
		if cmd == rplInsHeader {
			c.Kind = InsertHeader
		}
	}
	text, err := stringsOf(data, 1, 2)
	if err != nil {
		return err
	}
	if len(text) == 1 { // libmilter leaves out the empty value that removes a field
		text = append(text, "")
	}
	c.Name = text[0]
	if !fieldName(c.Name) {
		return errors.New("not the name of a header field")
	}
	if c.Value, err = fieldValue(text[1]); err != nil {
		return err
	}
	if s.k.steps&leadSpace == 0 && c.Value != "" && c.Value[0] != ' ' && c.Value[0] != '\t' {
		c.Value = " " + c.Value
	}
	if s.headerOctets += len(c.Name) + len(c.Value) + 3; s.headerOctets > s.c.cfg.MaxHeader {
		return fmt.Errorf("more than %d octets of header fields", s.c.cfg.MaxHeader)
	}
	s.result.Changes = append(s.result.Changes, c)
	return nil
}

// fieldName reports whether s is the name of a header field (RFC 5322 §2.2).
func fieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return s != "" && len(s) <= 255
}

// fieldValue makes the folding of a value that of mail. A line that does not begin with a blank
// would be a field of its own, or the end of the header section.
func fieldValue(s string) (string, error) {
	s = strings.TrimRight(s, "\r\n")
	lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for i, l := range lines {
		if strings.ContainsRune(l, '\r') {
			return "", errors.New("a bare CR in a header field")
		}
		if i > 0 && strings.TrimLeft(l, " \t") == l {
			return "", errors.New("a header field that breaks out of its folding")
		}
	}
	// A line of blanks alone reads as the end of the header section in careless programs.
	out := lines[:1]
	for _, l := range lines[1:] {
		if strings.Trim(l, " \t") != "" {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\r\n"), nil
}

func (s *session) changeEnvelope(cmd byte, data []byte) error {
	most := 1
	if cmd == rplAddRcptPar || cmd == rplChgFrom {
		most = 2
	}
	text, err := stringsOf(data, 1, most)
	if err != nil {
		return err
	}
	c := Change{Kind: AddRecipient}
	if len(text) == 2 {
		c.Args = text[1]
		if !printable(c.Args) {
			return errors.New("parameters that are not printable ASCII")
		}
	}
	path := bracketed(text[0])
	switch cmd {
	case rplChgFrom:
		c.Kind = ChangeFrom
		c.ReversePath, err = address.ParseReversePath(path, true)
	case rplDelRcpt:
		c.Kind = DeleteRecipient
		c.ForwardPath, err = address.ParseForwardPath(path, true)
	default:
		c.ForwardPath, err = address.ParseForwardPath(path, true)
	}
	if err != nil {
		return fmt.Errorf("an address: %w", err)
	}
	s.result.Changes = append(s.result.Changes, c)
	return nil
}

// bracketed puts angle brackets around an address without them.
func bracketed(s string) string {
	s = strings.Trim(s, " ")
	if !strings.HasPrefix(s, "<") {
		return "<" + s + ">"
	}
	return s
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return len(s) <= 1024
}

func (s *session) changeBody(data []byte) error {
	if s.body == nil {
		spool, err := s.c.cfg.Spool(s.ctx)
		if err != nil {
			return fmt.Errorf("making room for the new body: %w", err)
		}
		s.body, s.repair = spool, &repairer{w: spool}
	}
	if s.bodyOctets += int64(len(data)); s.bodyOctets > s.c.cfg.MaxBody {
		return fmt.Errorf("%w: a new body over %d octets", ErrProtocol, s.c.cfg.MaxBody)
	}
	if err := s.repair.write(data); err != nil {
		return fmt.Errorf("writing the new body: %w", err)
	}
	return nil
}
