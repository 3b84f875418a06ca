package digest

import (
	"bufio"
	"bytes"
	"fmt"
	"html/template"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/message"
)

// letterHTML is the second form of a digest. It loads nothing.
var letterHTML = template.Must(template.New("digest").Parse(`<!DOCTYPE html>
<html lang="{{.Code}}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Title}}</title></head>
<body style="font-family:sans-serif;max-width:45em"><h1 style="font-size:1.3em">{{.Title}}</h1>
<p>{{.Intro}}</p>
<ol>
{{range .Items}}<li style="margin-bottom:1em"><strong>{{.Subject}}</strong><br>
{{$.From}}: {{.From}}<br>
{{$.Date}}: {{.When}}<br>
{{$.Why}}: {{.Why}}{{if .Score}} ({{.Score}} {{$.Points}}){{end}}<br>
{{if .Operator}}{{$.OperatorOnly}}<br>
{{end}}{{if .Web}}<a href="{{.Web}}" aria-label="{{$.Show}}: {{.Subject}}">{{$.Show}}</a>{{end}}{{if .Mail}} {{if .Web}}· {{end}}<a href="{{.Mail}}" aria-label="{{$.ReleaseByMail}}: {{.Subject}}">{{$.ReleaseByMail}}</a>{{end}}</li>
{{end}}</ol>
{{if .Rest}}<p>{{.More}} {{.Rest}}</p>
{{end}}<p style="color:#555">{{.Expires}}{{if or .StopWeb .StopMail}} {{.Stop}} <a href="{{if .StopWeb}}{{.StopWeb}}{{else}}{{.StopMail}}{{end}}">{{.StopLink}}</a>.{{end}}</p>
</body></html>
`))

// plainText writes the first form.
func (s *sheet) plainText(w io.Writer) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\r\n", args...) }
	p("%s\r\n", s.Intro)
	for i := range s.Items {
		e := &s.Items[i]
		p("%d. %s", i+1, e.facts.Subject)
		p("   %s: %s", s.language.From, e.facts.From)
		p("   %s: %s", s.Date, e.When)
		why := e.facts.Why
		if e.Score != "" {
			why += " (" + e.Score + " " + s.Points + ")"
		}
		p("   %s: %s", s.language.Why, why)
		if e.Operator {
			p("   %s", s.OperatorOnly)
		}
		if e.Web != "" {
			p("   %s: %s", s.Show, e.Web)
		}
		if e.Mail != "" {
			p("   %s: %s", s.ReleaseByMail, e.Mail)
		}
		p("")
	}
	if s.Rest > 0 {
		p("%s %d\r\n", s.More, s.Rest)
	}
	p("%s", s.Expires)
	for _, link := range []string{s.StopWeb, s.StopMail} {
		if link != "" {
			p("%s %s", s.Stop, link)
		}
	}
}

// write writes a digest with CRLF lines. Its header section is ASCII.
func (d *Digest) write(w io.Writer, id message.ID, acc *account.Account, s *sheet, now time.Time) error {
	boundary := "=_" + id.String()
	var h []byte
	h = fmt.Appendf(h, "From: Poczta <%s>\r\nTo: <%s>\r\n", d.cfg.From, acc.Address)
	if !d.cfg.Release.IsZero() {
		h = fmt.Appendf(h, "Reply-To: <%s>\r\n", d.cfg.Release)
	}
	h = message.AppendText(h, "Subject", fmt.Sprintf("%s (%d)", s.Title, int64(len(s.Items))+s.Rest))
	h = fmt.Appendf(h, "Date: %s\r\nMessage-ID: %s\r\n", message.FormatDate(now.In(d.cfg.Location)), message.NewMessageID(id, d.cfg.Hostname))
	h = append(h, "Auto-Submitted: auto-generated\r\n"...) // RFC 3834 §5
	if list := s.unsubscribe(); list != "" {
		h = append(h, list...)
	}
	h = fmt.Appendf(h, "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"%s\"\r\nContent-Language: %s\r\n\r\n", boundary, s.Code)
	out := bufio.NewWriter(w)
	_, _ = out.Write(h) // Flush tells
	var plain, html bytes.Buffer
	s.plainText(&plain)
	if err := letterHTML.Execute(&html, s); err != nil {
		return err
	}
	for _, part := range []struct {
		kind   string
		octets []byte
	}{{"plain", plain.Bytes()}, {"html", bytes.ReplaceAll(html.Bytes(), []byte("\n"), []byte("\r\n"))}} {
		fmt.Fprintf(out, "--%s\r\nContent-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", boundary, part.kind)
		qp := quotedprintable.NewWriter(out)
		if _, err := qp.Write(part.octets); err != nil {
			return err
		}
		if err := qp.Close(); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "--%s--\r\n", boundary)
	return out.Flush()
}

// unsubscribe is the List-Unsubscribe fields (RFC 2369 §3.2), for one click when there is a page (RFC 8058 §3.1).
func (s *sheet) unsubscribe() string {
	var links []string
	for _, link := range []string{s.StopWeb, s.StopMail} {
		if link != "" {
			links = append(links, "<"+link+">")
		}
	}
	if len(links) == 0 {
		return ""
	}
	field := "List-Unsubscribe: " + strings.Join(links, ",\r\n ") + "\r\n"
	if s.StopWeb != "" {
		field += "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
	}
	return field
}
