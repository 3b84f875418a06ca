package mua

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/outbox"
)

// ErrRefused means that a server did not take a letter for everybody.
var ErrRefused = errors.New("not taken for everybody")

// Submit puts a finished letter into the outbox, as programs hand it to sendmail. What waits for
// the network is no error; a letter that somebody's server refused is: ErrRefused.
func (d *Desk) Submit(ctx context.Context, h outbox.Handed) error {
	id, err := d.Mail.Outbox.Hand(ctx, h, d.In)
	if err != nil {
		return err
	}
	if d.Mail.running.Load() {
		d.Mail.Outbox.Wake()
		return nil
	}
	_ = d.Mail.Outbox.Flush(ctx) // what waits is tried again with sync; who called needs to know of refusals alone
	item, err := d.Mail.Outbox.Item(context.WithoutCancel(ctx), id)
	if err != nil || item.State != outbox.Refused && item.State != outbox.Partly {
		return err
	}
	for _, r := range item.Recipients {
		if r.State == outbox.Refused {
			return fmt.Errorf("letter %d: %w: %s: %s; see poczta mail outbox", id, ErrRefused, r.Address, flat(r.Reply))
		}
	}
	return nil
}

// ParseNotify reads when a sender wants reports (RFC 3461 §4.1): never, or some of success, failure
// and delay, parted by commas; "" leaves it to the servers. The error is ErrUsage.
func ParseNotify(s string) (n envelope.Notify, err error) {
	names := map[string]envelope.Notify{"success": envelope.NotifySuccess, "failure": envelope.NotifyFailure, "delay": envelope.NotifyDelay}
	switch strings.ToLower(s) {
	case "":
		return 0, nil
	case "never":
		return envelope.NotifyNever, nil
	}
	for word := range strings.SplitSeq(strings.ToLower(s), ",") {
		bit, known := names[strings.TrimSpace(word)]
		if !known {
			return 0, fmt.Errorf("%w: reports %q; write never, or some of success,failure,delay", ErrUsage, s)
		}
		n |= bit
	}
	return n, nil
}

// ParseReturn reads what a report brings back: full, or hdrs; "" leaves it to the servers.
func ParseReturn(s string) envelope.Return {
	switch strings.ToLower(s) {
	case "full":
		return envelope.ReturnFull
	case "hdrs":
		return envelope.ReturnHeaders
	}
	return envelope.ReturnUndeclared
}

// unfold parts a header section into fields. Linear, however a field is folded.
func unfold(head []byte) []string {
	var out []string
	var field []byte
	end := func() {
		if len(field) > 0 {
			out = append(out, string(field))
		}
		field = field[:0]
	}
	for line := range bytes.Lines(head) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			if len(field) > 0 {
				field = append(field, line...)
			}
			continue
		}
		end()
		if bytes.IndexByte(line, ':') >= 0 {
			field = append(field, line...)
		}
	}
	end()
	return out
}
