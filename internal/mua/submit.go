package mua

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
)

// Submission is a finished letter on the input, as programs hand it to sendmail.
type Submission struct {
	ReversePath string
	Recipients  []string
	FromHeader  bool // recipients are those of To, Cc and Bcc too
	Account     string
}

// Submit puts a finished letter into the outbox. It is from the account of the reverse-path, else
// of From, else the one named, else the first.
func (d *Desk) Submit(ctx context.Context, s Submission) error {
	in := bufio.NewReaderSize(d.In, 64<<10)
	head, err := headerSection(in)
	if err != nil {
		return err
	}
	fields := map[string][]string{}
	for _, h := range unfold(head) {
		name, value, _ := strings.Cut(h, ":")
		fields[strings.ToLower(name)] = append(fields[strings.ToLower(name)], value)
	}
	if s.FromHeader {
		for _, name := range []string{"to", "cc", "bcc"} {
			good, bad := compose.ParseAddresses(strings.Join(fields[name], ","))
			if len(bad) > 0 {
				return fmt.Errorf("%q in the letter's %s is not an address; nothing was sent", strings.TrimSpace(bad[0]), name)
			}
			for _, a := range good {
				s.Recipients = append(s.Recipients, a.Address)
			}
		}
	}
	if len(s.Recipients) == 0 {
		return fmt.Errorf("%w: name recipients, or take those of the letter with -t", ErrUsage)
	}
	a, err := d.submitter(ctx, s, fields["from"])
	if err != nil {
		return err
	}
	l := outbox.Letter{Account: a.ID, Recipients: s.Recipients, Message: io.MultiReader(bytes.NewReader(head), in)}
	if s.ReversePath != "" && a.Owns(s.ReversePath) {
		l.ReversePath = s.ReversePath
	}
	if len(fields["from"]) == 0 {
		l.Message = io.MultiReader(strings.NewReader("From: "+a.Address+"\n"), l.Message)
	}
	id, err := d.Mail.Outbox.Put(ctx, l)
	if err != nil {
		return err
	}
	if d.Mail.running.Load() {
		d.Mail.Outbox.Wake()
		return nil
	}
	_ = d.Mail.Outbox.Flush(ctx) // what waits is tried again with sync; who called needs to know of refusals alone
	item, err := d.Mail.Outbox.Item(context.WithoutCancel(ctx), id)
	if err == nil && (item.State == outbox.Refused || item.State == outbox.Partly) {
		err = fmt.Errorf("letter %d was not taken for everybody; see poczta mail outbox", id)
	}
	return err
}

// submitter is the account that a finished letter goes by.
func (d *Desk) submitter(ctx context.Context, s Submission, from []string) (profile.Account, error) {
	all, err := d.Mail.Accounts.List(ctx)
	if err != nil {
		return profile.Account{}, err
	}
	if len(all) == 0 {
		return profile.Account{}, errors.New("there is no account to send by: poczta mail add ADDRESS")
	}
	if s.Account != "" {
		return d.account(ctx, s.Account)
	}
	wanted := []string{s.ReversePath}
	good, _ := compose.ParseAddresses(strings.Join(from, ","))
	for _, a := range good {
		wanted = append(wanted, a.Address)
	}
	for _, addr := range wanted {
		if i := slices.IndexFunc(all, func(a profile.Account) bool { return addr != "" && a.Owns(addr) }); i >= 0 {
			return all[i], nil
		}
	}
	return all[0], nil
}

// maxHead bounds the header section of a finished letter, in octets.
const maxHead = 1 << 20

// headerSection reads up to and with the empty line.
func headerSection(r *bufio.Reader) ([]byte, error) {
	var head []byte
	for {
		line, err := r.ReadSlice('\n')
		head = append(head, line...)
		if len(head) > maxHead {
			return nil, fmt.Errorf("read letter: its header section is larger than %s", size(maxHead))
		}
		if errors.Is(err, io.EOF) || err == nil && len(bytes.TrimRight(line, "\r\n")) == 0 {
			return head, nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("read letter: %w", err)
		}
	}
}

// unfold parts a header section into fields.
func unfold(head []byte) []string {
	var out []string
	for line := range strings.Lines(string(head)) {
		line = strings.TrimRight(line, "\r\n")
		if n := len(out); n > 0 && line != "" && (line[0] == ' ' || line[0] == '\t') {
			out[n-1] += line
		} else if strings.Contains(line, ":") {
			out = append(out, line)
		}
	}
	return out
}
