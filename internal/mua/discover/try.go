package discover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/pop3client"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtpclient"
)

// Try logs in to a candidate's servers, in their order until one of each direction takes
// the login, and sends no mail. A wrong password is not tried at further servers of that
// direction, so that it isn't counted against the person more often than needed. The
// error is ErrUnconfirmed, or ctx's; everything else is in the trial.
func (f *Finder) Try(ctx context.Context, c Candidate, cred Credentials) (*Trial, error) {
	if c.NeedsConfirmation() {
		return nil, ErrUnconfirmed
	}
	inner, cancel := context.WithTimeout(ctx, f.cfg.Total)
	defer cancel()
	t := &Trial{}
	t.Incoming, t.IncomingLogin = f.first(inner, t, c.Incoming, cred, "")
	if !t.refused() { // what the one refuses, the other would count once more
		t.Outgoing, t.OutgoingLogin = f.first(inner, t, c.Outgoing, cred, t.IncomingLogin)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return t, nil
}

// refused reports whether a server did not take the password.
func (t *Trial) refused() bool {
	return len(t.Steps) > 0 && t.Steps[len(t.Steps)-1].Result == WrongPassword
}

// first finds the first server that takes the login.
func (f *Finder) first(ctx context.Context, t *Trial, list []Server, cred Credentials, known string) (*Server, string) {
	for _, s := range list {
		if known != "" && slices.Contains(s.Logins, known) { // the name that the other server took goes first
			s.Logins = append([]string{known}, slices.DeleteFunc(slices.Clone(s.Logins), func(l string) bool { return l == known })...)
		}
		login, step := f.TryServer(ctx, s, cred)
		t.Steps = append(t.Steps, step)
		if step.OK() {
			return &s, login
		}
		if step.Result == WrongPassword {
			break
		}
	}
	return nil, ""
}

// TryServer logs in to one server, with the names of s.Logins one after the other while
// they are refused, and returns the name that was taken. It does not ask whether the
// server needs a confirmation.
func (f *Finder) TryServer(ctx context.Context, s Server, cred Credentials) (login string, step Step) {
	step = Step{Source: s.Source, What: s.place()}
	if err := usable(s, cred); err != "" {
		step.Result = err
		return "", step
	}
	logins := s.Logins
	if cred.Username != "" {
		logins = []string{cred.Username}
	}
	for _, login = range logins {
		step.Result, step.Detail = f.login(ctx, s, login, cred)
		if step.Result != WrongPassword {
			break
		}
	}
	if !step.OK() {
		login = ""
	}
	return login, step
}

// usable says why credentials do not suit a server, before anything is sent.
func usable(s Server, cred Credentials) Result {
	kinds := s.Authentications
	if cred.Token == "" && len(kinds) > 0 && !slices.ContainsFunc(kinds, func(k clientconfig.Authentication) bool { return k != clientconfig.OAuth2 }) {
		return NeedsOAuth
	}
	return ""
}

// login opens a session, logs in and leaves.
func (f *Finder) login(ctx context.Context, s Server, name string, cred Credentials) (Result, string) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Request)
	defer cancel()
	c := sasl.Credentials{Username: name, Password: cred.Password, Token: cred.Token, Certificate: cred.External}
	if s.Protocol == clientconfig.POP3 {
		return f.popSession(ctx, s, cred.Certificate, func(x *pop3client.Session) (Result, string) {
			return popLogin(x.Login(ctx, c))
		})
	}
	return f.smtpSession(ctx, s, cred.Certificate, func(x *smtpclient.Session) (Result, string) {
		if len(x.Extensions().Auth) == 0 && takesAnyone(s) {
			return Open, ""
		}
		return smtpLogin(x.Auth(ctx, c))
	})
}

// takesAnyone reports whether the provider said that the server needs no login.
func takesAnyone(s Server) bool {
	return slices.ContainsFunc(s.Authentications, func(a clientconfig.Authentication) bool {
		return a == clientconfig.NoLogin || a == clientconfig.ClientIP
	})
}

// popLogin says what came of a login.
func popLogin(err error) (Result, string) {
	if err == nil {
		return LoggedIn, ""
	}
	said := ""
	if e, ok := errors.AsType[*pop3client.Error](err); ok {
		said = clip(strings.TrimSpace(e.Code + " " + e.Reply))
	}
	switch pop3client.KindOf(err) {
	case pop3client.KindCredentials:
		return WrongPassword, said
	case pop3client.KindInUse:
		return InUse, said
	case pop3client.KindDelay, pop3client.KindTemporary:
		return Later, said
	case pop3client.KindUnsupported:
		return NoMechanism, ""
	case pop3client.KindPermanent, pop3client.KindRefused:
		return Trouble, said
	case pop3client.KindProtocol:
		return OtherProtocol, ""
	}
	return failure(err)
}

// smtpLogin says what came of a login (RFC 4954 §6).
func smtpLogin(err error) (Result, string) {
	if err == nil {
		return LoggedIn, ""
	}
	if _, ok := errors.AsType[*smtpclient.Unsupported](err); ok {
		return NoMechanism, ""
	}
	e, ok := errors.AsType[*smtpclient.Error](err)
	if !ok || e.Reply == nil {
		return failure(err)
	}
	said := clip(fmt.Sprintf("%d %s", e.Reply.Code, e.Reply.Text))
	switch {
	case e.Reply.Code == 535:
		return WrongPassword, said
	case e.Reply.Code/100 == 4:
		return Later, said
	}
	return Trouble, said
}
