package feedback

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// ReadAggregate reads an aggregate report from its file, packed or not (Unpack). It takes the
// forms of RFC 9990 and RFC 7489 Appendix C and of older drafts, elements in any order and any
// namespace, and words in any case; what it does not know it passes over. The error wraps
// ErrFormat when it is no such report or names no domain, ErrTooLarge, or the
// reader's. A report that breaks off behind its first record is returned with Damaged.
func ReadAggregate(file io.Reader, l Limits) (a *Aggregate, err error) {
	err = Unpack(file, l, func(r io.Reader) error {
		a, err = ReadXML(r, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// ReadXML is ReadAggregate of a file that is not packed and within l.Unpacked.
func ReadXML(r io.Reader, l Limits) (*Aggregate, error) {
	a := &Aggregate{}
	p := parser{report: a, max: l.orDefaults().Records}
	if err := p.parse(r); err != nil {
		if len(a.Records) == 0 {
			return nil, err
		}
		a.Damaged = text(err.Error())
	}
	if a.Policy.Domain == "" {
		return nil, fmt.Errorf("%w: it names no domain", ErrFormat)
	}
	return a, nil
}

// parser reads XML token by token, so that what it does not know costs nothing.
type parser struct {
	report *Aggregate
	max    int
	path   []string // names of the open elements, in lower case, below the root
	leaf   strings.Builder
	record *Record
}

func (p *parser) parse(r io.Reader) error {
	// A UTF-16 report begins with a mark that says so; then its declaration is true no longer.
	plain := transform.NewReader(r, unicode.BOMOverride(transform.Nop))
	d := xml.NewDecoder(bufio.NewReader(&shortMarkup{r: plain}))
	d.Strict = false
	d.CharsetReader = charset
	root := false
	for {
		t, err := d.RawToken()
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: it breaks off", ErrFormat) // its end returns below
		case errors.Is(err, ErrTooLarge):
			return err
		case err != nil:
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		switch t := t.(type) {
		case xml.Directive: // a DOCTYPE; entities of its own are what attacks are made of
			if strings.Contains(string(t), "ENTITY") {
				return fmt.Errorf("%w: it declares entities", ErrFormat)
			}
		case xml.StartElement:
			if !root {
				if !strings.EqualFold(t.Name.Local, "feedback") {
					return fmt.Errorf("%w: the XML is not a report", ErrFormat)
				}
				root = true
				continue
			}
			if err := p.start(t.Name.Local); err != nil {
				return err
			}
		case xml.EndElement:
			if len(p.path) == 0 { // of the root: what follows it is not looked at
				return nil
			}
			p.end(t.Name.Local)
		case xml.CharData:
			if p.leaf.Len() < 4*maxText {
				p.leaf.Write(t[:min(len(t), 4*maxText)])
			}
		}
	}
}

// shortMarkup fails where no "<" comes for maxMarkup octets, so that no element can have
// attributes without number: within a value a "<" is an error.
type shortMarkup struct {
	r   io.Reader
	run int
}

const maxMarkup = 64 << 10

func (s *shortMarkup) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if i := bytes.LastIndexByte(p[:n], '<'); i >= 0 {
		s.run = n - i
	} else {
		s.run += n
	}
	if s.run > maxMarkup {
		return 0, fmt.Errorf("%w: an element or text has over %d octets", ErrTooLarge, maxMarkup)
	}
	return n, err
}

// charset decodes what the XML declaration names.
func charset(label string, in io.Reader) (io.Reader, error) {
	if strings.HasPrefix(strings.ToLower(label), "utf-16") {
		return in, nil // decoded already, or it would not have been readable up to here
	}
	e, err := htmlindex.Get(label)
	if err != nil {
		return nil, fmt.Errorf("unknown charset %q", text(label))
	}
	return e.NewDecoder().Reader(in), nil
}

func (p *parser) start(name string) error {
	if len(p.path) >= maxDepth {
		return fmt.Errorf("%w: its elements are nested more than %d deep", ErrFormat, maxDepth)
	}
	p.path = append(p.path, strings.ToLower(name[:min(len(name), 64)]))
	p.leaf.Reset()
	switch strings.Join(p.path, "/") {
	case "record":
		p.record = &Record{}
	case "record/row/policy_evaluated/reason":
		if p.record != nil && len(p.record.Reasons) <= maxReasons {
			p.record.Reasons = append(p.record.Reasons, Reason{})
		}
	case "record/auth_results/dkim":
		if p.record != nil && len(p.record.AuthDKIM) <= maxResults {
			p.record.AuthDKIM = append(p.record.AuthDKIM, DKIMResult{})
		}
	case "record/auth_results/spf":
		if p.record != nil && len(p.record.AuthSPF) <= maxResults {
			p.record.AuthSPF = append(p.record.AuthSPF, SPFResult{})
		}
	}
	return nil
}

// end closes the innermost element, or those within the one that is named: reporters forget ends.
func (p *parser) end(name string) {
	name = strings.ToLower(name[:min(len(name), 64)])
	at := len(p.path) - 1
	for at >= 0 && p.path[at] != name {
		at--
	}
	if at < 0 {
		return
	}
	for len(p.path) > at {
		p.close()
	}
}

func (p *parser) close() {
	path, value := strings.Join(p.path, "/"), text(p.leaf.String())
	p.path = p.path[:len(p.path)-1]
	p.leaf.Reset()
	inside, ok := strings.CutPrefix(path, "record")
	switch {
	case ok && inside == "":
		p.finish()
	case ok && p.record != nil:
		p.inRecord(strings.TrimPrefix(inside, "/"), value)
	case value != "":
		p.inReport(path, value)
	}
}

func (p *parser) finish() {
	if p.record == nil {
		return
	}
	if len(p.report.Records) < p.max {
		r := *p.record // what is over the bounds was read into one place more
		r.Reasons = r.Reasons[:min(len(r.Reasons), maxReasons)]
		r.AuthDKIM = r.AuthDKIM[:min(len(r.AuthDKIM), maxResults)]
		r.AuthSPF = r.AuthSPF[:min(len(r.AuthSPF), maxResults)]
		p.report.Records = append(p.report.Records, r)
	} else {
		p.report.Omitted += p.record.Count
	}
	p.record = nil
}

var dispositions = []string{"none", "quarantine", "reject"}

func (p *parser) inReport(path, v string) {
	a := p.report
	switch path {
	case "version":
		a.Version = v
	case "report_metadata/org_name":
		a.Organization = v
	case "report_metadata/email":
		a.Email = v
	case "report_metadata/extra_contact_info":
		a.Contact = v
	case "report_metadata/report_id":
		a.ID = v
	case "report_metadata/generator":
		a.Generator = v
	case "report_metadata/error":
		if len(a.Errors) < maxErrors {
			a.Errors = append(a.Errors, v)
		}
	case "report_metadata/date_range/begin":
		a.Begin = seconds(v)
	case "report_metadata/date_range/end":
		a.End = seconds(v)
	}
	if name, ok := strings.CutPrefix(path, "policy_published/"); ok {
		a.Policy.set(name, v)
	}
}

func (pol *Published) set(name, v string) {
	switch name {
	case "domain":
		pol.Domain = strings.ToLower(strings.TrimSuffix(v, "."))
	case "p":
		pol.Policy = word(v, dispositions...)
	case "sp":
		pol.Subdomain = word(v, dispositions...)
	case "np":
		pol.NonExistent = word(v, dispositions...)
	case "adkim":
		pol.DKIM = word(v, "r", "s")
	case "aspf":
		pol.SPF = word(v, "r", "s")
	case "pct":
		if _, ok := number(v, 100); ok && len(v) <= 3 {
			pol.Percent = v
		}
	case "fo":
		pol.Options = v
	case "testing":
		pol.Testing = word(v, "y") == "y"
	case "discovery_method":
		pol.Discovery = word(v, "psl", "treewalk")
	}
}

func (p *parser) inRecord(path, v string) {
	r := p.record
	switch path {
	case "row/source_ip":
		if addr, err := netip.ParseAddr(v); err == nil {
			r.Source = addr.WithZone("").Unmap()
		}
	case "row/count":
		r.Count, _ = number(v, maxCount)
	case "row/policy_evaluated/disposition":
		r.Disposition = word(v, "none", "pass", "quarantine", "reject")
	case "row/policy_evaluated/dkim":
		r.DKIM = word(v, "pass", "fail")
	case "row/policy_evaluated/spf":
		r.SPF = word(v, "pass", "fail")
	case "identifiers/envelope_to", "identities/envelope_to":
		r.EnvelopeTo = v
	case "identifiers/envelope_from", "identities/envelope_from":
		r.EnvelopeFrom = v
	case "identifiers/header_from", "identities/header_from":
		r.HeaderFrom = strings.ToLower(v)
	}
	if name, ok := strings.CutPrefix(path, "row/policy_evaluated/reason/"); ok && len(r.Reasons) > 0 {
		last := &r.Reasons[len(r.Reasons)-1]
		switch name {
		case "type":
			last.Type = reasonType(v)
		case "comment":
			last.Comment = v
		}
	}
	if name, ok := strings.CutPrefix(path, "auth_results/dkim/"); ok && len(r.AuthDKIM) > 0 {
		r.AuthDKIM[len(r.AuthDKIM)-1].set(name, v)
	}
	if name, ok := strings.CutPrefix(path, "auth_results/spf/"); ok && len(r.AuthSPF) > 0 {
		r.AuthSPF[len(r.AuthSPF)-1].set(name, v)
	}
}

// reasonType knows the words of both standards.
func reasonType(s string) string {
	if w := word(s, "forwarded", "sampled_out", "trusted_forwarder", "mailing_list", "local_policy", "policy_test_mode"); w != "" {
		return w
	}
	return "other"
}

func (d *DKIMResult) set(name, v string) {
	switch name {
	case "domain":
		d.Domain = strings.ToLower(v)
	case "selector":
		d.Selector = v
	case "result":
		d.Result = word(v, "none", "pass", "fail", "policy", "neutral", "temperror", "permerror")
	case "human_result":
		d.Human = v
	}
}

func (s *SPFResult) set(name, v string) {
	switch name {
	case "domain":
		s.Domain = strings.ToLower(v)
	case "scope":
		s.Scope = word(v, "mfrom", "helo")
	case "result":
		s.Result = spfResult(v)
	case "human_result":
		s.Human = v
	}
}

// spfResult also knows what implementations wrote before RFC 7489 (its Appendix C).
func spfResult(s string) string {
	switch w := word(s, "none", "pass", "fail", "softfail", "neutral", "temperror", "permerror", "hardfail", "unknown", "error"); w {
	case "hardfail":
		return "fail"
	case "unknown":
		return "temperror"
	case "error":
		return "permerror"
	default:
		return w
	}
}
