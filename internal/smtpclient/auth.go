package smtpclient

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"

	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
)

const (
	// maxScramIterations bounds the work that a server can ask of us: about half a second.
	maxScramIterations = 1_000_000
	// maxAuthSteps bounds the challenges of an exchange; the longest of ours has three.
	maxAuthSteps = 4
)

// ErrServerProof means that the server has not shown that it knows the password's keys
// (RFC 5802 §5): it is not whom it claims to be.
var ErrServerProof = errors.New("server did not prove that it knows the account")

// Credentials are a login at another server, as of a smart host.
type Credentials struct {
	Username string
	Password string
	// Mechanisms are those that may be used, best first; empty means SCRAM-SHA-256-PLUS,
	// SCRAM-SHA-256, PLAIN and LOGIN.
	Mechanisms []string
}

// Auth authenticates (RFC 4954) by the first mechanism of c that the server offers. PLAIN
// and LOGIN are used under TLS only. The error is *Unsupported when no mechanism fits, or
// an *Error: with a Reply of the server the session is usable unless Usable says
// otherwise. What the server offers after AUTH is taken to be what it offered before.
func (s *Session) Auth(ctx context.Context, c Credentials) error {
	x, err := s.mechanism(c)
	if err != nil {
		return err
	}
	end, err := s.begin(ctx, StageAuth)
	if err != nil {
		return err
	}
	return end(s.authenticate(x))
}

// exchange is the client's side of a mechanism.
type exchange struct {
	name    string
	initial []byte                                 // nil: none
	next    func(challenge []byte) ([]byte, error) // answers a challenge
	proven  func() bool                            // whether success may be believed
}

// mechanism chooses one.
func (s *Session) mechanism(c Credentials) (*exchange, error) {
	allowed := c.Mechanisms
	if len(allowed) == 0 {
		allowed = []string{sasl.ScramSHA256Plus, sasl.ScramSHA256, sasl.Plain, sasl.Login}
	}
	for _, name := range allowed {
		name = strings.ToUpper(name)
		if !slices.Contains(s.ext.Auth, name) {
			continue
		}
		switch {
		case name == sasl.ScramSHA256Plus && s.tls != nil, name == sasl.ScramSHA256:
			x, err := s.scram(name, c)
			if err != nil {
				return nil, &Error{Stage: StageAuth, Local: true, Err: err}
			}
			return x, nil
		case name == sasl.Plain && s.tls != nil:
			return plain(c)
		case name == sasl.Login && s.tls != nil:
			return login(c), nil
		}
	}
	return nil, &Unsupported{Extension: "AUTH", Need: "a login with " + strings.Join(allowed, ", ") + " (PLAIN and LOGIN under TLS only)"}
}

func always() bool { return true }

// plain is PLAIN (RFC 4616).
func plain(c Credentials) (*exchange, error) {
	if strings.Contains(c.Username+c.Password, "\x00") {
		return nil, &Error{Stage: StageAuth, Local: true, Err: ErrArgument}
	}
	return &exchange{name: sasl.Plain, initial: []byte("\x00" + c.Username + "\x00" + c.Password), proven: always,
		next: func([]byte) ([]byte, error) { return nil, ErrProtocol }}, nil
}

// login is LOGIN: name, then password, whatever the prompts say.
func login(c Credentials) *exchange {
	answers := []string{c.Username, c.Password}
	return &exchange{name: sasl.Login, proven: always, next: func([]byte) ([]byte, error) {
		if len(answers) == 0 {
			return nil, ErrProtocol
		}
		a := answers[0]
		answers = answers[1:]
		return []byte(a), nil
	}}
}

// scram is SCRAM-SHA-256, with or without channel binding (RFC 5802, 7677).
func (s *Session) scram(name string, c Credentials) (*exchange, error) {
	client, err := scram.SHA256.NewClient(c.Username, c.Password, "")
	if err != nil {
		return nil, fmt.Errorf("prepare the password for SCRAM: %w", err)
	}
	var conv *scram.ClientConversation
	switch {
	case name == sasl.ScramSHA256Plus:
		binding, err := channelBinding(s.tls)
		if err != nil {
			return nil, err
		}
		conv = client.NewConversationWithChannelBinding(binding)
	case s.tls != nil && !slices.Contains(s.ext.Auth, sasl.ScramSHA256Plus):
		conv = client.NewConversationAdvertisingChannelBinding() // RFC 5802 §6: "y", against a stripped offer
	default:
		conv = client.NewConversation()
	}
	first, err := conv.Step("")
	if err != nil {
		return nil, fmt.Errorf("begin SCRAM: %w", err)
	}
	next := func(challenge []byte) ([]byte, error) {
		if err := boundIterations(string(challenge)); err != nil {
			return nil, err
		}
		if conv.Done() {
			return nil, ErrProtocol
		}
		answer, err := conv.Step(string(challenge))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrServerProof, err)
		}
		return []byte(answer), nil
	}
	return &exchange{name: name, initial: []byte(first), next: next, proven: conv.Valid}, nil
}

// channelBinding chooses tls-exporter under TLS 1.3 and tls-unique below (RFC 9266 §3).
func channelBinding(state *tls.ConnectionState) (scram.ChannelBinding, error) {
	b := sasl.BindingOf(state, nil)
	switch {
	case len(b.Exporter) > 0:
		return scram.NewTLSExporterBinding(state)
	case len(b.Unique) > 0:
		return scram.NewTLSUniqueBinding(b.Unique), nil
	}
	return scram.NewTLSServerEndpointBinding(state)
}

// boundIterations refuses a server-first-message that asks for too much work.
func boundIterations(challenge string) error {
	for attr := range strings.SplitSeq(challenge, ",") {
		if v, ok := strings.CutPrefix(attr, "i="); ok {
			if n, err := strconv.Atoi(v); err != nil || n > maxScramIterations {
				return fmt.Errorf("%w: SCRAM with %.20s iterations", ErrProtocol, v)
			}
		}
	}
	return nil
}

// authenticate runs an exchange.
func (s *Session) authenticate(x *exchange) error {
	line := "AUTH " + x.name
	s.cfg.Dialogue.sent([]byte(line + " ...\r\n"))
	if x.initial != nil {
		text := base64.StdEncoding.EncodeToString(x.initial)
		if len(line)+1+len(text)+len("\r\n") <= smtp.MaxCommandLine { // RFC 4954 §4
			line += " " + text
			x.initial = nil
		}
	}
	r, err := s.send(StageAuth, []byte(line+"\r\n"))
	for range maxAuthSteps {
		if err != nil {
			return err
		}
		if r.Code != 334 {
			return s.authEnd(x, r)
		}
		answer, bad := x.answer(r.Text)
		if bad != nil {
			return s.cancelAuth(bad)
		}
		r, err = s.send(StageAuth, append(base64.StdEncoding.AppendEncode(nil, answer), crlf...))
	}
	if err != nil {
		return err
	}
	if r.Code == 334 {
		return s.cancelAuth(ErrProtocol)
	}
	return s.authEnd(x, r)
}

// answer decodes a challenge and makes the response.
func (x *exchange) answer(text string) ([]byte, error) {
	if x.initial != nil { // it did not fit the command
		answer := x.initial
		x.initial = nil
		return answer, nil
	}
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil && x.name != sasl.Login { // LOGIN's prompts mean nothing
		return nil, fmt.Errorf("%w: challenge is not base64", ErrProtocol)
	}
	return x.next(challenge)
}

// authEnd judges the reply that ends an exchange.
func (s *Session) authEnd(x *exchange, r smtp.Reply) error {
	switch {
	case r.Code/100 == 2 && r.Code != 235: // RFC 4954 §6
		return s.protocol(StageAuth, r)
	case r.Code != 235:
		return s.refused(StageAuth, r)
	case !x.proven():
		s.fail()
		return &Error{Stage: StageAuth, Reply: &r, Err: ErrServerProof}
	}
	return nil
}

// cancelAuth gives an exchange up (RFC 4954 §4) and ends the session: a server that can't
// do its own mechanism, or does not know the password's keys, gets no mail.
func (s *Session) cancelAuth(reason error) error {
	r, err := s.send(StageAuth, []byte("*\r\n"))
	s.fail()
	if err != nil {
		return errors.Join(&Error{Stage: StageAuth, Err: reason}, err)
	}
	return &Error{Stage: StageAuth, Reply: &r, Err: reason}
}
