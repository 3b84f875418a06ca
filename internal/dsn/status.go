package dsn

import (
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
)

// maxDiagnosticOctets bounds what another host's reply may put into a report.
const maxDiagnosticOctets = 900

// status writes the machine's part (RFC 3464 §2, RFC 6533 §3).
func (r *Report) status(p *printer) {
	kind := "message/delivery-status"
	if r.international() {
		kind = "message/global-delivery-status"
	}
	encoding := ""
	if r.international() {
		encoding = "Content-Transfer-Encoding: 8bit\r\n"
	}
	p.part("Content-Type: " + kind + "\r\n" + encoding + "Content-Description: Delivery report\r\n")
	var b []byte
	if r.EnvelopeID != "" {
		b = line(b, "Original-Envelope-Id", oneLine(r.EnvelopeID))
	}
	b = line(b, "Reporting-MTA", "dns; "+r.ReportingMTA.String())
	if !r.Arrival.IsZero() {
		b = line(b, "Arrival-Date", message.FormatDate(r.Arrival))
	}
	for _, rcpt := range r.Recipients {
		b = append(b, "\r\n"...)
		b = r.recipient(b, rcpt)
	}
	p.bytes(append(b, "\r\n"...))
}

// recipient writes the per-recipient fields (RFC 3464 §2.3).
func (r *Report) recipient(b []byte, rcpt Recipient) []byte {
	if rcpt.Original.Address != "" {
		b = line(b, "Original-Recipient", addressType(rcpt.Original.Type, rcpt.Original.Address)+"; "+oneLine(rcpt.Original.Address))
	}
	final := finalText(rcpt.Final, r.ReportingMTA)
	b = line(b, "Final-Recipient", addressType("rfc822", final)+"; "+final)
	b = line(b, "Action", string(rcpt.Action))
	b = line(b, "Status", rcpt.Status.String())
	if rcpt.RemoteMTA != "" {
		b = line(b, "Remote-MTA", "dns; "+oneLine(rcpt.RemoteMTA))
	}
	if rcpt.Diagnostic != "" {
		d := oneLine(rcpt.Diagnostic)
		if !r.international() {
			d = strings.Map(func(c rune) rune {
				if c >= 0x7f {
					return '?'
				}
				return c
			}, d)
		}
		b = message.AppendField(b, "Diagnostic-Code", "smtp; "+d)
	}
	if !rcpt.Attempted.IsZero() {
		b = line(b, "Last-Attempt-Date", message.FormatDate(rcpt.Attempted))
	}
	if rcpt.Action == Delayed && !rcpt.RetryUntil.IsZero() {
		b = line(b, "Will-Retry-Until", message.FormatDate(rcpt.RetryUntil))
	}
	return b
}

// finalText writes a forward-path without brackets.
func finalText(p address.ForwardPath, host address.Domain) string {
	if p.IsPostmaster() {
		return "postmaster@" + host.String()
	}
	return p.Address().String()
}

// addressType names an address' form: utf-8 once it is not ASCII (RFC 6533 §3).
func addressType(given, addr string) string {
	if !ascii(addr) {
		return "utf-8"
	}
	if given == "" {
		return "rfc822"
	}
	return oneLine(given)
}

func line(b []byte, name, value string) []byte {
	return append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
}

// oneLine makes text from outside harmless as the value of a field.
func oneLine(s string) string {
	if len(s) > maxDiagnosticOctets {
		s = s[:maxDiagnosticOctets]
	}
	s = strings.ToValidUTF8(s, "?")
	return strings.Join(strings.FieldsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f || 0x80 <= c && c <= 0x9f }), " ")
}
