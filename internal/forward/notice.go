package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
)

// notice tells the owner of a forward that it failed, once a day, or that it is suspended.
// The notice stays here: it is not forwarded.
func (f *Forwarding) notice(ctx context.Context, x failure, suspended bool) error {
	if lately, err := f.noticedLately(ctx, x); err != nil || lately && !suspended {
		return err
	}
	to := x.alias.Source
	route, err := account.Route{}, errors.New("none")
	if !to.IsZero() {
		route, err = f.c.Router.Home(ctx, address.NewForwardPath(to))
	}
	if err != nil || route.Match != account.MatchAddress { // an alias is its postmaster's
		if to, err = address.New("postmaster", x.alias.Domain); err == nil {
			route, err = f.home(ctx, to)
		}
	}
	if errors.Is(err, account.ErrUnknownUser) || errors.Is(err, account.ErrDisabled) || errors.Is(err, account.ErrNotLocal) {
		f.c.Logger.Warn("nobody to tell of a forward that failed", "forward", x.source, "target", x.target.String(), "status", x.status)
		return nil
	}
	if err != nil {
		return fmt.Errorf("route notice about forward of %s: %w", x.source, err)
	}
	err = f.send(ctx, x, to, route, suspended)
	if errors.Is(err, errNoticed) {
		return nil
	}
	return err
}

// send accepts the notice.
func (f *Forwarding) send(ctx context.Context, x failure, to address.Address, route account.Route, suspended bool) error {
	now := f.c.Now()
	id, err := message.NewID(now, f.c.Random)
	if err != nil {
		return err
	}
	d := &post.Delivery{ID: id, Ours: true, MessageID: message.NewMessageID(id, f.c.Hostname), UTF8: !to.IsASCII(), Envelope: envelope.Envelope{
		Recipients: []envelope.Recipient{{ForwardPath: address.NewForwardPath(to), Notify: envelope.NotifyNever}},
		Body:       envelope.Body7Bit, SMTPUTF8: !to.IsASCII(), Origin: envelope.Origin{Protocol: "local", Time: now},
	}}
	language := ""
	for _, l := range route.Locals {
		if language == "" {
			language = l.Language
		}
		d.Locals = append(d.Locals, post.Local{Recipients: []int{0}, Account: l.Account, Login: l.Login,
			Prefix: message.AppendPrefix(nil, address.ReversePath{}, to)})
	}
	if d.Staged, err = f.c.Accepter.Stage(ctx, 0); err != nil {
		return fmt.Errorf("stage notice: %w", err)
	}
	defer d.Staged.Discard()
	if err := f.write(d.Staged, d, x, language, suspended); err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	d.Within = func(tx db.Tx) error { return f.claimNotice(tx, x, suspended) }
	if err := f.c.Accepter.Accept(ctx, d); err != nil {
		return fmt.Errorf("accept notice about forward of %s: %w", x.source, err)
	}
	return nil
}

// words are the sentences of one language.
type words struct {
	failed, suspended, from, said, daily, resumeAccount, resumeAlias string
}

func wordsFor(language string) words {
	if strings.EqualFold(language, "pl") {
		return words{
			failed:        "Nie udało się przekazać poczty dla %s na adres %s.",
			suspended:     "Wstrzymano przekazywanie poczty dla %s na adres %s.",
			from:          "Nadawca wiadomości: ",
			said:          "Przyczyna: ",
			daily:         "Takie powiadomienie przychodzi najwyżej raz na dobę. Po %d nieudanych próbach w ciągu %d dni przekazywanie zostanie wstrzymane.",
			resumeAccount: "Kolejne wiadomości nie docierały. Dopóki żaden adres nie działa, poczta zostaje w tej skrzynce. Gdy adres zacznie działać, administrator wznowi przekazywanie poleceniem:\n\n    poczta account forward %s --resume",
			resumeAlias:   "Kolejne wiadomości nie docierały. Gdy adres zacznie działać, przekazywanie wznowi polecenie:\n\n    poczta alias add %s %s",
		}
	}
	return words{
		failed:        "Mail for %s could not be forwarded to %s.",
		suspended:     "Mail for %s is not forwarded to %s any more.",
		from:          "The message came from: ",
		said:          "The reason: ",
		daily:         "You get such a notice once a day at most. After %d failures within %d days the forward is suspended.",
		resumeAccount: "One message after the other failed. While no address works, mail stays in this mailbox. Once the address works, the postmaster resumes the forward with:\n\n    poczta account forward %s --resume",
		resumeAlias:   "One message after the other failed. Once the address works, resume the forward with:\n\n    poczta alias add %s %s",
	}
}

// maxStatusRunes is how much of a host's words is shown.
const maxStatusRunes = 500

// write writes the notice (RFC 3834 §5: auto-generated).
func (f *Forwarding) write(w io.Writer, d *post.Delivery, x failure, language string, suspended bool) error {
	t := wordsFor(language)
	first := fmt.Sprintf(t.failed, x.source, x.target.Unicode())
	if suspended {
		first = fmt.Sprintf(t.suspended, x.source, x.target.Unicode())
	}
	var b []byte
	b = message.AppendField(b, "From", "Mail Delivery System <MAILER-DAEMON@"+f.c.Hostname.String()+">")
	b = message.AppendField(b, "To", "<"+d.Envelope.Recipients[0].ForwardPath.Address().String()+">")
	b = message.AppendText(b, "Subject", strings.TrimSuffix(first, "."))
	b = message.AppendField(b, "Date", message.FormatDate(d.Envelope.Origin.Time))
	b = message.AppendField(b, "Message-ID", d.MessageID)
	b = message.AppendField(b, "Auto-Submitted", "auto-generated")
	b = message.AppendField(b, "MIME-Version", "1.0")
	b = message.AppendField(b, "Content-Type", "text/plain; charset=utf-8")
	b = message.AppendField(b, "Content-Transfer-Encoding", "quoted-printable")
	if _, err := w.Write(append(b, "\r\n"...)); err != nil {
		return err
	}
	text := first + "\n\n"
	if x.from != "" {
		text += t.from + harmless(x.from) + "\n"
	}
	text += t.said + harmless(x.status) + "\n\n"
	switch {
	case !suspended:
		text += fmt.Sprintf(t.daily, MaxFailures, int(Window.Hours()/24))
	case !x.isAlias(d):
		text += fmt.Sprintf(t.resumeAccount, x.source)
	default:
		text += fmt.Sprintf(t.resumeAlias, x.source, x.target)
	}
	q := quotedprintable.NewWriter(w)
	if _, err := io.WriteString(q, strings.ReplaceAll(text+"\n", "\n", "\r\n")); err != nil {
		return err
	}
	return q.Close()
}

// isAlias reports whether the notice goes to somebody else than x.source, as one about an
// alias does.
func (x *failure) isAlias(d *post.Delivery) bool {
	return x.alias.Source.IsZero() || x.alias.Source.Key() != d.Envelope.Recipients[0].ForwardPath.Key()
}

// harmless makes a host's words fit for one line.
func harmless(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(c rune) bool { return c <= ' ' || c == 0x7f || 0x80 <= c && c <= 0x9f }), " ")
	if r := []rune(s); len(r) > maxStatusRunes {
		s = string(r[:maxStatusRunes]) + "…"
	}
	return s
}
