package pop3server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/sasl"
)

// user is USER. It says yes to every name, so as not to tell which exist
// (RFC 1939 §13). A name may hold spaces and UTF-8 (RFC 6856 §2.2).
func (s *session) user(_ context.Context, cmd pop3.Command) error {
	if !s.plaintextAllowed() {
		return refuse(pop3.TextNeedTLS)
	}
	s.auth.login = string(cmd.First)
	s.okReply(pop3.TextPassword.In(s.lang))
	return nil
}

// pass is PASS.
func (s *session) pass(ctx context.Context, cmd pop3.Command) error {
	password := string(cmd.First)
	clear(cmd.First)
	login := s.auth.login
	s.auth.login = ""
	switch {
	case !s.plaintextAllowed():
		return refuse(pop3.TextNeedTLS)
	case login == "":
		return refuse(pop3.TextNeedUser)
	}
	start := time.Now()
	id, err := s.server.config.Verifier.VerifyPlain(ctx, s.saslPeer(), "", login, password)
	return s.login(ctx, "USER", start, id, err)
}

// authenticate is AUTH (RFC 5034 §4). Without argument it lists the mechanisms,
// as servers before CAPA did and some programs still ask.
func (s *session) authenticate(ctx context.Context, cmd pop3.Command) error {
	o := s.saslOptions()
	if cmd.First == nil {
		s.okReply(pop3.TextMechanisms.In(s.lang))
		b := s.out.room(pop3.MaxResponseOctets)
		for _, m := range s.mechanisms(o) {
			b = append(append(b, m...), '\r', '\n')
		}
		s.out.put(append(b, ".\r\n"...))
		return nil
	}
	initial, err := sasl.DecodeInitial(cmd.Second)
	clear(cmd.Second)
	if err != nil {
		return fault(pop3.TextBadBase64)
	}
	x, mechanism, err := s.exchange(string(cmd.First), o)
	if err != nil {
		return err
	}
	start := time.Now()
	id, err := s.converse(ctx, x, initial)
	if errors.Is(err, sasl.ErrCancelled) {
		return fault(pop3.TextCancelled)
	}
	if s.out.err != nil || errors.Is(err, errConnection) {
		s.ended(err)
		return errEnd
	}
	return s.login(ctx, mechanism, start, id, err)
}

// exchange begins an exchange with a mechanism that is offered now.
func (s *session) exchange(name string, o sasl.Options) (x sasl.Exchange, mechanism string, err error) {
	mechanism = upper(name)
	if !slices.Contains(s.mechanisms(o), mechanism) {
		if (mechanism == sasl.Plain || mechanism == sasl.Login) && !s.plaintextAllowed() {
			return nil, "", refuse(pop3.TextNeedTLS)
		}
		return nil, "", refuse(pop3.TextNoMechanism)
	}
	if x, err = sasl.New(mechanism, o); err != nil {
		return nil, "", &refusal{text: pop3.TextNoMechanism, err: err}
	}
	return x, mechanism, nil
}

// mechanisms lists what is offered now: what package sasl offers, narrowed and
// ordered by the configuration.
func (s *session) mechanisms(o sasl.Options) []string {
	all := sasl.Mechanisms(o)
	if len(s.server.config.Mechanisms) == 0 {
		return all
	}
	var some []string
	for _, m := range s.server.config.Mechanisms {
		if slices.Contains(all, m) {
			some = append(some, m)
		}
	}
	return some
}

// errConnection marks a connection that ended within an exchange.
var errConnection = errors.New("connection ended in an exchange")

// converse carries an exchange's challenges and responses.
func (s *session) converse(ctx context.Context, x sasl.Exchange, response []byte) (sasl.Identity, error) {
	for {
		challenge, done, err := x.Next(ctx, response)
		if err != nil {
			return sasl.Identity{}, err
		}
		if done {
			return x.Identity(), nil
		}
		b := append(s.out.room(4+2*len(challenge)), "+ "...)
		s.out.put(append(sasl.AppendChallenge(b, challenge), '\r', '\n'))
		line, err := s.line(pop3.MaxSASLOctets - 2)
		if errors.Is(err, errLine) {
			return sasl.Identity{}, sasl.ErrMalformed
		}
		if err != nil {
			return sasl.Identity{}, fmt.Errorf("%w: %w", errConnection, err)
		}
		response, err = sasl.DecodeResponse(line)
		clear(line)
		if err != nil {
			return sasl.Identity{}, err
		}
	}
}

// login ends an attempt: it opens the maildrop and enters TRANSACTION, or refuses.
func (s *session) login(ctx context.Context, mechanism string, start time.Time, id sasl.Identity, err error) error {
	if err != nil {
		return s.loginFailed(ctx, mechanism, start, err)
	}
	now := time.Now()
	if s.server.logins.early(id.Account, now) {
		s.tellLogin(mechanism, "delay", start)
		return &refusal{code: pop3.CodeLoginDelay, text: pop3.TextLoginDelay}
	}
	drop, err := s.server.config.Maildrops.Open(ctx, id, s.auth.utf8)
	if err != nil {
		s.tellLogin(mechanism, "maildrop", start)
		if _, ok := errors.AsType[*pop3.Error](err); ok {
			return err
		}
		return &refusal{code: pop3.CodeSysTemp, text: pop3.TextTemporary, err: fmt.Errorf("open maildrop of account %d: %w", id.Account, err)}
	}
	s.server.logins.note(id.Account, now)
	s.identity, s.errors = id, 0
	keeper, _ := drop.(Keeper)
	s.enter(stateTransaction, &transaction{drop: drop, keeper: keeper, len: drop.Len(), stood: now})
	s.tellLogin(mechanism, "ok", start)
	b := append(s.out.room(pop3.MaxResponseOctets), "+OK "...)
	b = append(b, pop3.TextMaildrop.In(s.lang)...)
	b = strconv.AppendInt(append(b, ' '), int64(s.trans.len), 10)
	b = append(append(b, ' '), pop3.Messages(s.lang, int64(s.trans.len))...)
	b = strconv.AppendInt(append(b, " ("...), drop.TotalOctets(), 10)
	b = append(append(b, ' '), pop3.Octets(s.lang, drop.TotalOctets())...)
	s.out.put(append(b, ")\r\n"...))
	return nil
}

// loginFailed is the reply to a failed attempt, after a delay; the last one ends
// the session.
func (s *session) loginFailed(ctx context.Context, mechanism string, start time.Time, err error) error {
	r := &refusal{code: pop3.CodeSysTemp, text: pop3.TextUnavailable, err: err}
	result := "unavailable"
	switch {
	case errors.Is(err, sasl.ErrCredentials):
		*r, result = refusal{code: pop3.CodeAuth, text: pop3.TextCredentials}, "credentials"
	case errors.Is(err, sasl.ErrDisabled):
		*r, result = refusal{code: pop3.CodeAuth, text: pop3.TextCredentials}, "disabled"
	case errors.Is(err, sasl.ErrThrottled):
		*r, result = refusal{code: pop3.CodeSysTemp, text: pop3.TextThrottled}, "throttled"
	case errors.Is(err, sasl.ErrMalformed):
		*r, result = refusal{text: pop3.TextMalformed, fault: true}, "malformed"
	}
	s.tellLogin(mechanism, result, start)
	s.failures++
	s.pause(ctx, s.server.config.ErrorDelay)
	if s.failures >= s.server.config.MaxLoginFailures {
		r.end = true
		s.why = "logins"
	}
	return r
}

func (s *session) tellLogin(mechanism, result string, start time.Time) {
	if h := s.server.config.Hooks.Login; h != nil {
		h(mechanism, result, time.Since(start))
	}
	level := slog.LevelInfo
	if result == "ok" {
		level = slog.LevelDebug
	}
	s.server.config.Logger.Log(context.Background(), level, "login", slog.String("conn_id", s.id), slog.String("peer", s.peer.String()),
		slog.String("mechanism", mechanism), slog.String("status", result), slog.String("login", s.identity.Login))
}

// upper puts ASCII letters in capitals.
func upper(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - ('a' - 'A')
		}
	}
	return string(b)
}
