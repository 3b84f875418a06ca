package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/dmarcreport"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/tlsreport"
	"poczta.example/poczta/internal/verdict"
	"poczta.example/poczta/internal/verify"
)

// Bounds of reports that others send: what does not fit is mail like any other.
const (
	reportReaders   = 2
	reportsWaiting  = 4
	reportMaxOctets = 4 << 20
)

// reports counts what is verified, for reports to others, and reads those that others send.
type reports struct {
	dmarc   *dmarcreport.Reports
	tls     *tlsreport.Receiver
	from    address.Address // where reports about us go, and what we send comes from; zero: nowhere
	waiting chan arrivedReport
	log     *slog.Logger
}

// arrivedReport is a message that looks like a report.
type arrivedReport struct {
	octets []byte
	root   *mime.Part
	proven address.Domain
	at     time.Time
}

// newReports makes the rooms' reports those of a server, which count and send.
func newReports(ctx context.Context, r *Rooms, o *outbound, metrics *obs.Metrics, log *slog.Logger) (*reports, error) {
	c := r.Config
	from, err := dmarcReportSender(ctx, r)
	if err != nil {
		return nil, err
	}
	policies, err := dmarc.New(dmarc.Config{Records: dmarc.FromResolver(o.dns), Mode: dmarcMode(&c.Verify)})
	if err != nil {
		return nil, err
	}
	rc := dmarcreport.Config{DB: r.DB, Own: r.own, Keep: c.DMARCReports.Keep.Duration(), Hooks: metrics.DMARCReports(), Logger: log,
		NoSending: !c.DMARCReports.Send || !c.Verify.Enabled || !c.DKIM.Sign || from.IsZero()}
	if !rc.NoSending {
		rc.Policies, rc.Accepter, rc.Router, rc.From, rc.Sign = policies, r.Post, r.Accounts, from, resigner{r.Keys}.signWhole
	}
	if r.DMARCReports, err = dmarcreport.New(rc); err != nil {
		return nil, fmt.Errorf("DMARC reports: %w", err)
	}
	return &reports{dmarc: r.DMARCReports, tls: r.TLSReports, from: from, waiting: make(chan arrivedReport, reportsWaiting), log: log}, nil
}

// dmarcReportSender is dmarc_reports.from, or the sender of reports about TLS.
func dmarcReportSender(ctx context.Context, r *Rooms) (address.Address, error) {
	if r.Config.DMARCReports.From != "" {
		return address.Parse(r.Config.DMARCReports.From)
	}
	return reportSender(ctx, r)
}

// verified is filter.Hooks.Verified.
func (p *reports) verified(_ context.Context, env *envelope.Envelope, v *verify.Report, action verdict.Action) {
	if !v.Peer.IsValid() || v.From.IsZero() || action == verdict.Defer { // what is put off comes again
		return
	}
	row := dmarcreport.Row{Result: v.DMARC, Source: v.Peer, From: v.From, Disposition: disposition(v, action)}
	if !env.ReversePath.IsNull() {
		row.EnvelopeFrom = env.ReversePath.Address().Domain()
	}
	if v.Override != verify.NotOverridden {
		row.Reasons = append(row.Reasons, feedback.Reason{Type: string(v.Override), Comment: v.Overrider})
	}
	for _, d := range v.DKIM {
		if s := d.Signature; s != nil {
			row.DKIM = append(row.DKIM, feedback.DKIMResult{Domain: s.Domain.String(), Selector: s.Selector, Result: d.Status.String()})
		}
	}
	if d := v.Identity(); !d.IsZero() {
		scope := "mfrom"
		if env.ReversePath.IsNull() {
			scope = "helo"
		}
		row.SPF = append(row.SPF, feedback.SPFResult{Domain: d.String(), Scope: scope, Result: v.MailFrom.Status.String()})
	}
	for _, to := range env.Recipients {
		if f := to.ForwardPath; !p.from.IsZero() && !f.IsPostmaster() && f.Address() == p.from {
			row.Report = true
		}
	}
	p.dmarc.Note(row)
}

// disposition is what became of a message because of its domain's policy.
func disposition(v *verify.Report, action verdict.Action) dmarc.Policy {
	applied := v.DMARC.Applied
	if v.Override != verify.NotOverridden || applied == dmarc.PolicyNone {
		return dmarc.PolicyNone
	}
	switch {
	case action == verdict.Refuse && applied == dmarc.PolicyReject:
		return dmarc.PolicyReject
	case action >= verdict.Junk:
		return dmarc.PolicyQuarantine
	}
	return dmarc.PolicyNone
}

// arriving is filter.Hooks.Arriving: it keeps what looks like a report until a reader has time.
func (p *reports) arriving(_ context.Context, m io.ReaderAt, size int64, c *content.Content, proven address.Domain) func() {
	if size > reportMaxOctets || !looksLikeReport(c) || len(p.waiting) == cap(p.waiting) {
		return nil
	}
	octets := make([]byte, size)
	if _, err := m.ReadAt(octets, 0); err != nil && !errors.Is(err, io.EOF) {
		p.log.Warn("a report could not be read", "error", err)
		return nil
	}
	a := arrivedReport{octets: octets, root: c.Root, proven: proven, at: time.Now()}
	return func() {
		select {
		case p.waiting <- a:
		default:
			p.log.Warn("a report was not read: too many come at once", "from", proven.String())
		}
	}
}

// looksLikeReport tells reports about DMARC and TLS by their form.
func looksLikeReport(c *content.Content) bool {
	if c.Root.Type == "multipart" && c.Root.Subtype == "report" {
		switch strings.ToLower(c.Root.Params["report-type"]) {
		case "tlsrpt", "feedback-report":
			return true
		}
	}
	if !strings.Contains(strings.ToLower(c.Subject), "report") {
		return false
	}
	for _, part := range c.Parts {
		switch part.Type + "/" + part.Subtype {
		case "application/gzip", "application/x-gzip", "application/zip", "application/x-zip-compressed", "application/xml", "text/xml",
			"application/tlsrpt+gzip", "application/tlsrpt+json", "application/octet-stream":
			return true
		}
	}
	return false
}

// read reads reports until ctx ends.
func (p *reports) read(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-p.waiting:
			p.take(ctx, a)
		}
	}
}

// take reads one report.
func (p *reports) take(ctx context.Context, a arrivedReport) {
	body := bytes.NewReader(a.octets)
	taken, err := p.dmarc.Take(ctx, dmarcreport.Message{Body: body, Root: a.root, From: a.proven, Received: a.at})
	if err == nil {
		p.log.Info("DMARC report received", "kind", taken.Kind, "domain", taken.Domain, "from", a.proven.String())
		return
	}
	if errors.Is(err, dmarcreport.ErrNotReport) {
		err = p.tls.Take(ctx, tlsreport.Message{Body: body, Root: a.root, From: a.proven})
		if err == nil || errors.Is(err, tlsreport.ErrNotReport) {
			return // it was one about TLS, or is none
		}
	}
	p.log.Warn("a report was not kept", "from", a.proven.String(), "error", err)
}
