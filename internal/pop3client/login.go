package pop3client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/sasl"
)

// maxAuthSteps bounds the challenges of an exchange; the longest of ours has three.
const maxAuthSteps = 4

// Credentials are a login. Of Mechanisms, "USER" is USER and PASS, which comes last where
// Mechanisms is empty and there is a password.
type Credentials = sasl.Credentials

// methodUser is USER and PASS among mechanisms.
const methodUser = "USER"

// Login authenticates by the best way that c allows, the server offers and the connection
// admits: SCRAM-SHA-256-PLUS, SCRAM-SHA-256, PLAIN, LOGIN, USER and PASS; OAUTHBEARER or
// XOAUTH2 with a token; EXTERNAL with a certificate. What shows a password or a token is
// used under TLS only, unless Config.Plaintext. It tries one way; the server's offer is
// asked for before and behind. APOP is not used: MD5 protects no password.
//
// The error is *Unsupported when no way fits, or an *Error: with ErrPlaintext nothing was
// sent; when Refused the session may be used for another attempt, see KindOf.
func (s *Session) Login(ctx context.Context, c Credentials) error {
	end, err := s.begin(ctx, "AUTH")
	if err != nil {
		return err
	}
	return end(s.login(c))
}

func (s *Session) login(c Credentials) error {
	if err := s.know(); err != nil {
		return err
	}
	x, err := sasl.NewClient(c, sasl.ClientOptions{Offered: s.caps.SASL, TLS: s.tls, Plaintext: s.cfg.Plaintext, Host: s.cfg.Host, Port: s.cfg.Port})
	switch {
	case errors.Is(err, sasl.ErrCredentialOctets):
		return &Error{Command: "AUTH", Err: fmt.Errorf("%w: %w", ErrArgument, err)}
	case err != nil:
		return &Error{Command: "AUTH", Err: err}
	case x == nil && !s.mayUser(c):
		return s.noWay(c)
	case x == nil && s.tls == nil && !s.cfg.Plaintext:
		return &Error{Command: methodUser, Err: ErrPlaintext}
	}
	if s.cfg.UTF8 && s.caps.UTF8 && !s.utf8 {
		err := s.ask("UTF8", s.cfg.Timeouts.Command)
		if err != nil && !s.Usable() {
			return err
		}
		s.utf8 = err == nil // a server that refuses what it offers gives surrogates
	}
	if x != nil {
		err = s.authenticate(x)
	} else {
		err = s.userPass(c)
	}
	if err != nil {
		return err
	}
	s.loggedIn = true
	if s.caps.Known { // RFC 2449 §5: other capabilities may be there now
		s.asked = false
		return s.know()
	}
	return nil
}

// mayUser reports whether USER and PASS are a way.
func (s *Session) mayUser(c Credentials) bool {
	allowed := len(c.Mechanisms) == 0 && c.Password != "" && !c.Certificate && c.Token == "" || slices.Contains(c.Allowed(), methodUser)
	return allowed && (s.caps.User || !s.caps.Known)
}

// noWay tells why there is no way to log in.
func (s *Session) noWay(c Credentials) error {
	if s.tls == nil && !s.cfg.Plaintext {
		for _, m := range c.Allowed() {
			if slices.Contains(s.caps.SASL, m) {
				return &Error{Command: "AUTH", Err: ErrPlaintext}
			}
		}
	}
	return &Unsupported{Extension: "SASL", Need: "a login with " + strings.Join(c.Allowed(), ", ")}
}

// userPass logs in by USER and PASS (RFC 1939 §7).
func (s *Session) userPass(c Credentials) error {
	if c.Username == "" || strings.ContainsAny(c.Username+c.Password, "\r\n\x00") ||
		len("USER ")+max(len(c.Username), len(c.Password))+len("\r\n") > pop3.MaxCommandOctets {
		return &Error{Command: methodUser, Err: ErrArgument}
	}
	if _, err := s.exchange("USER", "USER ...", "USER "+c.Username, s.cfg.Timeouts.Login); err != nil {
		return err
	}
	_, err := s.exchange("PASS", "PASS ...", "PASS "+c.Password, s.cfg.Timeouts.Login)
	return err
}

// authenticate runs an exchange (RFC 5034 §4).
func (s *Session) authenticate(x *sasl.Client) error {
	line := "AUTH " + x.Mechanism()
	command, initial := line, x.Initial()
	if initial != nil {
		text := base64.StdEncoding.EncodeToString(initial)
		if text == "" {
			text = "="
		}
		if len(line)+1+len(text)+len("\r\n") <= pop3.MaxCommandOctets { // RFC 5034 §4
			line += " " + text
			initial = nil
		}
	}
	s.out = append(append(s.out[:0], line...), '\r', '\n')
	err := s.send(command, command+" ...", s.out)
	for range maxAuthSteps {
		if err != nil {
			return err
		}
		s.watch(s.cfg.Timeouts.Login)
		r, err2 := s.reply(command, 0)
		if err2 != nil {
			return err2
		}
		if r.Status != pop3.StatusChallenge {
			return s.judge(x, command, r)
		}
		answer, bad := respond(x, r.Text, &initial)
		if bad != nil {
			return s.cancel(command, bad)
		}
		s.out = append(base64.StdEncoding.AppendEncode(s.out[:0], answer), '\r', '\n')
		err = s.send(command, "...", s.out)
	}
	if err != nil {
		return err
	}
	return s.cancel(command, ErrProtocol)
}

// respond decodes a challenge and makes the response.
func respond(x *sasl.Client, text string, initial *[]byte) ([]byte, error) {
	if *initial != nil { // it did not fit the command
		answer := *initial
		*initial = nil
		return answer, nil
	}
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil && x.Mechanism() != sasl.Login { // LOGIN's prompts mean nothing
		return nil, fmt.Errorf("%w: challenge is not base64", ErrProtocol)
	}
	answer, err := x.Next(challenge)
	if errors.Is(err, sasl.ErrChallenge) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return answer, err
}

// judge makes of the reply that ends an exchange what the caller gets.
func (s *Session) judge(x *sasl.Client, command string, r pop3.Reply) error {
	err := s.positive(command, 0, r)
	if e, ok := errors.AsType[*Error](err); ok {
		if x.Failure() != "" {
			e.Err = fmt.Errorf("server says of the token: %s", brief(x.Failure()))
		}
		return err
	}
	if !x.Proven() {
		s.fail()
		return &Error{Command: command, Reply: r.Text, Err: ErrServerProof}
	}
	return nil
}

// cancel gives an exchange up (RFC 5034 §4) and ends the session: a server that can't do
// its own mechanism, or does not know the password's keys, is not to be trusted.
func (s *Session) cancel(command string, reason error) error {
	s.out = append(s.out[:0], "*\r\n"...)
	if s.send(command, "*", s.out) == nil {
		s.watch(s.cfg.Timeouts.Bye)
		_, _, _ = s.status() // for the record
	}
	s.fail()
	return &Error{Command: command, Err: reason}
}
