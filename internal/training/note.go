package training

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/report"
)

// noteText is what somebody is told from whose mail nothing could be learned.
type noteText struct{ subject, body string }

var notes = map[string]noteText{
	"en": {"Nothing was learned", "Your mail to %s had no message attached from which could be learned.\r\n\r\n" +
		"Forward messages as attachments: most programs have \"Forward as attachment\" in the menu\r\n" +
		"Message. A message that is forwarded in the text says too little of where it came from.\r\n"},
	"pl": {"Niczego się nie nauczono", "Twój list do %s nie miał załączonej wiadomości, z której można się uczyć.\r\n\r\n" +
		"Przesyłaj wiadomości jako załączniki: większość programów ma w menu Wiadomość polecenie\r\n" +
		"„Prześlij dalej jako załącznik”. Wiadomość przesłana w treści za mało mówi o tym, skąd przyszła.\r\n"},
}

// note answers a mail from which nothing was learned, unless it was automatic (RFC 3834 §2).
func (r *Room) note(ctx context.Context, m Message) error {
	if v, ok := message.Get(m.Root.Header, "Auto-Submitted"); ok && !strings.EqualFold(strings.TrimSpace(v), "no") {
		return nil
	}
	acc, err := r.cfg.People.ByID(ctx, m.Account)
	if errors.Is(err, account.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	text, known := notes[acc.Language]
	if !known {
		text = notes["en"]
	}
	local := r.cfg.Ham
	if m.Spam {
		local = r.cfg.Spam
	}
	_, err = r.cfg.Letters.SendLetter(ctx, report.Letter{From: r.cfg.From, To: acc.Address, UTF8: !acc.Address.IsASCII() || !r.cfg.From.IsASCII(), Write: func(w io.Writer, id message.ID) error {
		var h []byte
		h = fmt.Appendf(h, "From: Poczta <%s>\r\nTo: <%s>\r\n", r.cfg.From, acc.Address)
		h = message.AppendText(h, "Subject", text.subject)
		h = fmt.Appendf(h, "Date: %s\r\nMessage-ID: %s\r\n", message.FormatDate(r.cfg.Now()), message.NewMessageID(id, r.cfg.Hostname))
		if about, ok := message.Get(m.Root.Header, "Message-ID"); ok && plainID(about) {
			h = fmt.Appendf(h, "In-Reply-To: %s\r\n", about) // RFC 3834 §3.1.5
		}
		h = append(h, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"...)
		out := bufio.NewWriter(w)
		_, _ = out.Write(h) // Flush tells
		fmt.Fprintf(out, text.body, local+"@"+acc.Address.Domain().String())
		return out.Flush()
	}})
	return err
}

// plainID reports a Message-ID that can be repeated.
func plainID(s string) bool {
	return len(s) <= 200 && strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
