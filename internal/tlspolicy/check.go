package tlspolicy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"poczta.example/poczta/internal/dane"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/tlsrpt"
)

// Offered reports whether STARTTLS should be used at all where a host offers it.
func (r Requirement) Offered() bool { return r.Level > None }

// Needed reports whether a session without TLS is of no use for mail without
// TLS-Required: No. If it is not, a handshake that fails may be followed by another
// connection without TLS.
func (r Requirement) Needed() bool {
	return r.Level >= Encrypt || r.refuse >= Encrypt && r.Expected >= Encrypt
}

// TLS returns a client's configuration made from base, which may be nil: the
// handshake itself checks no certificate, Check does so afterwards.
func (r Requirement) TLS(base *tls.Config) *tls.Config {
	c := base.Clone()
	if c == nil {
		c = &tls.Config{}
	}
	c.ServerName = r.ServerName
	c.InsecureSkipVerify = true // Check verifies, by more than one standard
	c.MinVersion = tls.VersionTLS12
	if !r.Needed() {
		c.MinVersion = tls.VersionTLS10 // old TLS is better than none
	}
	return c
}

// Verdict is what a session's TLS is worth.
type Verdict struct {
	Shown  Level         // None, Encrypt, Verify or DANE
	Result tlsrpt.Result // for reports
	// Err says why mail must not go to this host, or is nil. Permit decides for a message.
	Err       error
	Downgrade bool   // the host has shown more before
	Detail    string // what failed, in words, also where it does not matter; "" if nothing did

	req    Requirement
	reason string // Detail for reports: the same for the same failure
}

// Check judges a session's TLS: cs is its state after the handshake, nil if it goes
// without TLS because the host offers none or, as handshake says, because it failed.
func (r Requirement) Check(cs *tls.ConnectionState, handshake error) Verdict {
	v := Verdict{req: r}
	if r.Level == None {
		return v
	}
	if cs == nil {
		v.Result, v.Detail = tlsrpt.StartTLSNotSupported, "the host offers no STARTTLS"
		if handshake != nil {
			v.Result, v.Detail, v.reason = tlsrpt.ValidationFailure, "the TLS handshake failed: "+handshake.Error(), reason(handshake)
		}
	} else {
		r.authenticate(&v, cs)
	}
	v.Downgrade = v.Shown < r.Expected
	switch floor := min(r.refuse, r.Expected); {
	case cs != nil && cs.Version != 0 && cs.Version < tls.VersionTLS12 && r.Needed(): // of a session that another domain's mail opened
		v.Err = fmt.Errorf("TLS level %s is demanded (%s), which %s is too old for", r.Level, r.Source, tls.VersionName(cs.Version))
	case !r.met(v):
		v.Err = fmt.Errorf("TLS level %s is demanded (%s): %s", r.Level, r.Source, v.Detail)
	case v.Shown < floor:
		v.Err = fmt.Errorf("the host has shown TLS level %s before and shows %s now", r.Expected, v.Shown)
	}
	r.count(&v, cs)
	return v
}

// met reports whether the session meets the level.
func (r Requirement) met(v Verdict) bool {
	switch r.Level {
	case None, Opportunistic:
		return true
	case Encrypt:
		return v.Shown >= Encrypt
	case DANE:
		return v.Shown >= DANE
	}
	return v.Shown >= Verify
}

// authenticate looks at the certificates.
func (r Requirement) authenticate(v *Verdict, cs *tls.ConnectionState) {
	v.Shown = Encrypt
	if r.Level == DANE {
		_, err := r.TLSA.Verify(cs.PeerCertificates, r.Names, r.store.cfg.Now())
		if err == nil {
			v.Shown = DANE
			return
		}
		v.Result, v.Detail, v.reason = resultOf(err), err.Error(), reason(err)
		return
	}
	if err := r.webPKI(cs); err != nil {
		v.Result, v.Detail, v.reason = resultOf(err), err.Error(), reason(err)
		return
	}
	v.Shown = Verify
}

// webPKI checks chain and name by the rules of the web (RFC 8461 §4.2).
func (r Requirement) webPKI(cs *tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the host has shown no certificate")
	}
	leaf := cs.PeerCertificates[0]
	opts := x509.VerifyOptions{Roots: r.store.cfg.Roots, Intermediates: x509.NewCertPool(), CurrentTime: r.store.cfg.Now()}
	for _, c := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return err
	}
	for _, n := range r.Names {
		if nameFits(leaf, n) {
			return nil
		}
	}
	return fmt.Errorf("%w: want one of %s", dane.ErrName, strings.Join(r.Names, ", "))
}

// nameFits: a name may be .example.net, for all below.
func nameFits(leaf *x509.Certificate, name string) bool {
	suffix, all := strings.CutPrefix(name, ".")
	if !all {
		return leaf.VerifyHostname(name) == nil
	}
	for _, n := range leaf.DNSNames {
		if strings.HasSuffix(strings.ToLower(strings.TrimSuffix(n, ".")), "."+strings.ToLower(suffix)) {
			return true
		}
	}
	return false
}

// resultOf is an error's name in reports.
func resultOf(err error) tlsrpt.Result {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired || errors.Is(err, dane.ErrExpired) {
		return tlsrpt.CertificateExpired
	}
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case errors.Is(err, dane.ErrName):
		return tlsrpt.CertificateHostMismatch
	case unknown:
		return tlsrpt.CertificateNotTrusted
	}
	return tlsrpt.ValidationFailure
}

// reason is an error in words that are the same whenever it happens again: without
// times, ports and names, or each session would be a row of its own in the reports.
func reason(err error) string {
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return alert.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return clip(op.Err.Error(), 100)
	}
	if header, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return clip(header.Msg, 100)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	if strings.HasPrefix(err.Error(), "tls: ") {
		return clip(err.Error(), 100)
	}
	return ""
}

// count makes Result what reports count: a failure only where the policy that
// applies is not met (RFC 8460 §4.3).
func (r Requirement) count(v *Verdict, cs *tls.ConnectionState) {
	switch {
	case r.applied.failure != tlsrpt.Success:
		v.Result, v.Detail, v.reason = r.applied.failure, r.applied.detail, ""
	case cs == nil, r.applied.Type == tlsrpt.STS, r.Level == DANE:
	default: // no policy, or TLSA records that nobody can use: any TLS is a success
		v.Result = tlsrpt.Success
	}
}

// Demand is what one message asks for (RFC 8689).
type Demand struct {
	RequireTLS  bool // MAIL FROM had REQUIRETLS
	TLSOptional bool // TLS-Required: No; RequireTLS goes before it (§4.1)
	NullSender  bool // the reverse-path is null: REQUIRETLS does not hold a report back (§5)
	Offered     bool // the peer offers REQUIRETLS, in its EHLO reply under TLS
}

// Permit decides whether a message may go over the session. nil is yes. The error
// is an *smtp.Error to be used if no other host takes the message: 550 5.7.10 or
// 5.7.30 where REQUIRETLS is not met (RFC 8689 §4.2.1), and 451 4.7.5 or 4.7.10
// where a policy is not: that is repeated later.
func (v Verdict) Permit(d Demand) error {
	switch {
	case d.RequireTLS && !d.NullSender:
		return v.required(d)
	case d.TLSOptional && !d.RequireTLS:
		return nil // RFC 8689 §4.2.2: what the domain demands does not count
	case v.req.left != nil:
		return refuse(451, 5, v.req.left.Error(), v.req.left)
	case v.Err == nil:
		return nil
	case v.Shown == None:
		return refuse(451, 10, "the host does not offer the encryption that "+v.demander()+" demands", v.Err)
	}
	return refuse(451, 5, "the host's certificate does not meet what "+v.demander()+" demands", v.Err)
}

func (v Verdict) required(d Demand) error {
	switch {
	case v.req.left != nil:
		return refuse(451, 5, v.req.left.Error(), v.req.left)
	case v.Shown == None:
		return refuse(550, 10, "the message requires TLS, which the host does not offer", v.Err)
	case v.Err != nil:
		return refuse(451, 5, "the host's certificate does not meet what "+v.demander()+" demands", v.Err)
	case v.Shown < Verify:
		return refuse(550, 10, "the message requires TLS with a host whose certificate can be verified", errors.New(v.Detail))
	case !v.req.Trusted:
		return refuse(550, 10, "the message requires TLS with a host whose name is vouched for by DNSSEC or MTA-STS", nil)
	case !d.Offered:
		return refuse(550, 30, "the message requires REQUIRETLS, which the host does not offer", nil)
	}
	return nil
}

// Words tells the level shown and, where a policy led to it, which, as traces have it.
func (v Verdict) Words() string {
	if v.Shown == Verify && (v.req.Source == "mta-sts" || v.req.Source == "mta-sts testing") {
		return v.Shown.String() + " (" + v.req.Source + ")"
	}
	return v.Shown.String()
}

// demander is whose demand was not met.
func (v Verdict) demander() string {
	switch {
	case v.Shown < v.req.Expected && v.req.met(v):
		return "our memory of it"
	case v.req.Source == "dane":
		return "DANE"
	case v.req.Source == "mta-sts":
		return "MTA-STS"
	}
	return "our configuration"
}

func refuse(code, detail int, text string, err error) error {
	return &smtp.Error{Reply: smtp.Reply{Code: code, Subject: 7, Detail: detail, Text: text}, Err: err}
}
