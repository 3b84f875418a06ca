package smtpclient

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
)

// maxAuthSteps bounds the challenges of an exchange; the longest of ours has three.
const maxAuthSteps = 4

// ErrServerProof is sasl.ErrServerProof.
var ErrServerProof = sasl.ErrServerProof

// Credentials are a login at another server, as of a smart host.
type Credentials = sasl.Credentials

// Auth authenticates (RFC 4954) by the first mechanism of c that the server offers. What
// shows a password or a token is used under TLS only. The error is *Unsupported when no
// mechanism fits, or an *Error: with a Reply of the server the session is usable unless
// Usable says otherwise. What the server offers after AUTH is taken to be what it offered before.
func (s *Session) Auth(ctx context.Context, c Credentials) error {
	x, err := sasl.NewClient(c, sasl.ClientOptions{Offered: s.ext.Auth, TLS: s.tls, Host: s.ext.Name})
	switch {
	case errors.Is(err, sasl.ErrCredentialOctets):
		return &Error{Stage: StageAuth, Local: true, Err: fmt.Errorf("%w: %w", ErrArgument, err)}
	case err != nil:
		return &Error{Stage: StageAuth, Local: true, Err: err}
	case x == nil:
		return &Unsupported{Extension: "AUTH", Need: "a login with " + strings.Join(c.Allowed(), ", ") + " (PLAIN, LOGIN and tokens under TLS only)"}
	}
	end, err := s.begin(ctx, StageAuth)
	if err != nil {
		return err
	}
	return end(s.authenticate(&exchange{Client: x, initial: x.Initial()}))
}

// exchange is the client's side of a mechanism as it is being carried.
type exchange struct {
	*sasl.Client
	initial []byte // what is still to be sent of it; nil: nothing
}

// authenticate runs an exchange.
func (s *Session) authenticate(x *exchange) error {
	line := "AUTH " + x.Mechanism()
	s.cfg.Dialogue.sent([]byte(line + " ...\r\n"))
	if x.initial != nil {
		text := base64.StdEncoding.EncodeToString(x.initial)
		if text == "" {
			text = "=" // RFC 4954 §4: an empty one
		}
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
	if err != nil && x.Mechanism() != sasl.Login { // LOGIN's prompts mean nothing
		return nil, fmt.Errorf("%w: challenge is not base64", ErrProtocol)
	}
	response, err := x.Next(challenge)
	if errors.Is(err, sasl.ErrChallenge) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return response, err
}

// authEnd judges the reply that ends an exchange.
func (s *Session) authEnd(x *exchange, r smtp.Reply) error {
	switch {
	case r.Code/100 == 2 && r.Code != 235: // RFC 4954 §6
		return s.protocol(StageAuth, r)
	case r.Code != 235 && x.Failure() != "":
		return &Error{Stage: StageAuth, Reply: &r, Err: fmt.Errorf("server says of the token: %s", x.Failure())}
	case r.Code != 235:
		return s.refused(StageAuth, r)
	case !x.Proven():
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
