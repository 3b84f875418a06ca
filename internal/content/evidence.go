package content

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/verdict"
)

// evidence gathers items.
type evidence struct {
	items []verdict.Item
}

func (e *evidence) add(n verdict.Name, format string, a ...any) {
	detail := format
	if len(a) > 0 {
		detail = fmt.Sprintf(format, a...)
	}
	e.items = append(e.items, verdict.Item{Name: n, Detail: clip(printable(detail), verdict.MaxDetailOctets)})
}

// printable puts U+FFFD in place of what would disturb an operator's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '\uFFFD'
		}
		return r
	}, s)
}

// How far a date may lie from now: mail waits in queues for days, and clocks go wrong.
const (
	maxPast   = 15 * 24 * time.Hour
	maxFuture = 12 * time.Hour
)

// header judges the header section as such.
func (e *evidence) header(h *header, root *mime.Part, f Facts) {
	e.date(h, f.Now)
	if h.count[fieldMessageID] == 0 || h.value[fieldMessageID] == "" {
		e.add(verdict.NoMessageID, "")
	}
	switch {
	case h.count[fieldFrom] == 0:
		e.add(verdict.NoFrom, "there is no From field")
	case h.count[fieldFrom] > 1:
		e.add(verdict.NoFrom, "there are %d From fields", h.count[fieldFrom])
	case h.fromErr != nil && len(h.from) == 0:
		e.add(verdict.NoFrom, "the From field can't be read")
	case len(h.from) == 0:
		e.add(verdict.NoFrom, "the From field names nobody")
	}
	var repeated []string
	for k := range fieldSubject + 1 {
		if h.count[k] > 1 {
			repeated = append(repeated, fieldNames[k])
		}
	}
	if repeated != nil {
		e.add(verdict.ManyFields, "%s", strings.Join(repeated, ", "))
	}
	if !hasMailbox(h.value[fieldTo]) && !hasMailbox(h.value[fieldCc]) {
		e.add(verdict.NoTo, "")
	}
	if d := root.Defects & (mime.BadHeader | mime.NUL | mime.BareCR | mime.LargeHeader); d != 0 {
		e.add(verdict.BadHeader, "%s", d)
	} else if !utf8.Valid(root.Header) {
		e.add(verdict.BadHeader, "octets over 127 that are not UTF-8")
	}
	if why := oddSubject(h.subject, h.value[fieldSubject]); why != "" {
		e.add(verdict.SubjectOdd, "%s", why)
	}
	e.list(h)
}

func (e *evidence) date(h *header, now time.Time) {
	if h.count[fieldDate] == 0 {
		e.add(verdict.NoDate, "")
		return
	}
	t, ok := parseDate(h.value[fieldDate])
	switch {
	case !ok:
		e.add(verdict.BadDate, "the Date field can't be read")
	case now.IsZero():
	case t.After(now.Add(maxFuture)):
		e.add(verdict.DatingFuture, "the Date field is %d hours in the future", int64(t.Sub(now)/time.Hour))
	case t.Before(now.Add(-maxPast)):
		e.add(verdict.BadDate, "the Date field is %d days in the past", int64(now.Sub(t)/(24*time.Hour)))
	}
}

// hasMailbox reports whether an address field names somebody; what can't be read may.
func hasMailbox(v string) bool {
	if v == "" {
		return false
	}
	list, err := message.ParseAddressList(v)
	return len(list) > 0 || err != nil && strings.IndexByte(v, '@') >= 0
}

// list says that the message comes through a mailing list or in bulk.
func (e *evidence) list(h *header) {
	switch p := strings.ToLower(h.value[fieldPrecedence]); {
	case h.count[fieldListID] > 0:
		id := h.value[fieldListID]
		if _, in, ok := cutLast(id, "<"); ok {
			id, _, _ = strings.Cut(in, ">")
		}
		e.add(verdict.MailingList, "List-Id %s", clip(strings.TrimSpace(id), 150))
	case h.count[fieldListPost] > 0:
		e.add(verdict.MailingList, "List-Post")
	case h.count[fieldListUnsubscribe] > 0:
		e.add(verdict.MailingList, "List-Unsubscribe")
	case p == "list" || p == "bulk":
		e.add(verdict.MailingList, "Precedence %s", p)
	}
}

// oddSubject says in what way a subject shouts or hides its words.
func oddSubject(s, raw string) string {
	upper, lower, marks, invisibles := 0, 0, 0, 0
	for _, r := range s {
		switch {
		case unicode.IsUpper(r):
			upper++
		case unicode.IsLower(r):
			lower++
		case r == '!' || r == '$' || r == '\uff01':
			marks++
		case invisible(r) && r != '\r':
			invisibles++
		}
	}
	switch {
	case upper >= 12 && upper >= 9*lower:
		return "it is written in capitals"
	case marks >= 4:
		return "it has many exclamation marks or dollar signs"
	case invisibles > 0:
		return "it holds invisible characters"
	case gappy(s):
		return "its words are split into letters"
	case strings.Contains(strings.TrimSpace(raw), "        "):
		return "it has a long gap"
	}
	return ""
}

// gappy reports words that are written l.i.k.e t h i s.
func gappy(s string) bool {
	run, last := 0, false // last: the character in front was a single letter
	rs := []rune(clip(s, 500))
	for i, r := range rs {
		single := unicode.IsLetter(r) && (i == 0 || !unicode.IsLetter(rs[i-1])) && (i+1 == len(rs) || !unicode.IsLetter(rs[i+1]))
		switch {
		case single:
			if run++; run >= 5 {
				return true
			}
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			run = 0
		case last && !single && i > 0 && !unicode.IsLetter(rs[i-1]):
			run = 0
		}
		last = single
	}
	return false
}

// names judges From and Reply-To.
func (e *evidence) names(h *header, f Facts) {
	if len(h.from) == 0 {
		return
	}
	m := h.from[0]
	domain := m.Address.Domain().String()
	if in := addressIn(m.Name); in != "" && registrable(in) != registrable(domain) {
		e.add(verdict.NameAddress, "the name is an address of %s, the address is of %s", in, domain)
	}
	if f.OurDomain != nil && !f.OurDomain(domain) {
		asked := 0 // the answer may cost a look-up
		for w := range strings.FieldsFuncSeq(strings.ToLower(clip(m.Name, 1000)), func(r rune) bool {
			return r != '.' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}) {
			if w = strings.Trim(w, ".-"); strings.IndexByte(w, '.') <= 0 {
				continue
			}
			if asked++; asked > 10 {
				break
			}
			if f.OurDomain(w) {
				e.add(verdict.NameOurs, "the name speaks of %s, the address is of %s", w, domain)
				break
			}
		}
	}
	replies, err := message.ParseAddressList(h.value[fieldReplyTo])
	if err == nil && len(replies) > 0 {
		if to := replies[0].Address.Domain().String(); freeMail(to) && to != domain && registrable(to) != registrable(domain) {
			e.add(verdict.ReplyElse, "answers go to %s, the address is of %s", to, domain)
		}
	}
	if w := mixedWord(m.Name); w != "" {
		e.add(verdict.MixedScripts, "a word of the name in From")
	} else if w := mixedWord(h.subject); w != "" {
		e.add(verdict.MixedScripts, "a word of the subject")
	}
}

// addressIn returns the domain of an address that a name holds; "" when there is none.
func addressIn(name string) string {
	at := strings.LastIndexByte(name, '@')
	if at < 1 || len(name) > 1000 {
		return ""
	}
	rest := name[at+1:]
	if end := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }); end >= 0 {
		rest = rest[:end]
	}
	d, err := address.ParseDomain(strings.Trim(rest, ".-"))
	if err != nil || strings.IndexByte(d.String(), '.') < 0 || strings.IndexByte(" <([", name[at-1]) >= 0 {
		return ""
	}
	return d.String()
}

// registrable returns the domain that its owner registered: one label below a public suffix.
func registrable(domain string) string {
	d, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain
	}
	return d
}

// freeMail reports well-known services at which anybody gets an address.
func freeMail(domain string) bool {
	d := registrable(domain)
	label, _, _ := strings.Cut(d, ".")
	switch label {
	case "yahoo", "hotmail", "outlook", "live", "gmx", "yandex", "aol", "protonmail", "tutanota", "zoho", "rediffmail", "lycos", "mail2world":
		return true
	}
	return freeDomains[d]
}

var freeDomains = map[string]bool{
	"gmail.com": true, "googlemail.com": true, "msn.com": true, "ymail.com": true, "rocketmail.com": true, "icloud.com": true, "me.com": true, "mac.com": true, "proton.me": true, "pm.me": true,
	"mail.ru": true, "bk.ru": true, "inbox.ru": true, "list.ru": true, "rambler.ru": true, "qq.com": true, "163.com": true, "126.com": true, "sina.com": true, "sohu.com": true, "naver.com": true,
	"web.de": true, "freenet.de": true, "t-online.de": true, "wp.pl": true, "o2.pl": true, "onet.pl": true, "op.pl": true, "interia.pl": true, "tlen.pl": true, "seznam.cz": true, "centrum.cz": true,
	"libero.it": true, "laposte.net": true, "free.fr": true, "orange.fr": true, "mail.com": true, "email.com": true, "usa.net": true, "netscape.net": true, "excite.com": true, "fastmail.com": true,
	"fastmail.fm": true, "tuta.io": true, "tuta.com": true, "hushmail.com": true, "inbox.lv": true, "ukr.net": true, "i.ua": true, "abv.bg": true, "uol.com.br": true, "bol.com.br": true, "terra.com.br": true,
}

// icann reports a host below a top-level domain that is in the root zone.
func icann(host string) bool {
	suffix, managed := publicsuffix.PublicSuffix(host)
	return suffix != host && (managed || strings.IndexByte(suffix, '.') >= 0)
}
