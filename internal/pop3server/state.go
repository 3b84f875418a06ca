package pop3server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// state is a state of RFC 1939 §3; as a set of bits in the table of commands.
type state uint8

const (
	stateAuthorization state = 1 << iota // RFC 1939 §4; its data is session.auth
	stateTransaction                     // RFC 1939 §5; its data is session.trans
	stateUpdate                          // RFC 1939 §6; also every other end of a session
)

// String returns the state's name in RFC 1939.
func (st state) String() string {
	switch st {
	case stateAuthorization:
		return "AUTHORIZATION"
	case stateTransaction:
		return "TRANSACTION"
	case stateUpdate:
		return "UPDATE"
	}
	return ""
}

// command is a row of the table of commands.
type command struct {
	states state
	handle func(*session, context.Context, pop3.Command) error
}

// commands returns the table: verb → states and handler.
func commands() [pop3.NumVerbs]command {
	const both = stateAuthorization | stateTransaction
	return [pop3.NumVerbs]command{
		pop3.VerbUser: {stateAuthorization, (*session).user},
		pop3.VerbPass: {stateAuthorization, (*session).pass},
		pop3.VerbAuth: {stateAuthorization, (*session).authenticate},
		pop3.VerbStls: {stateAuthorization, (*session).startTLS},
		pop3.VerbUTF8: {stateAuthorization, (*session).utf8},
		pop3.VerbCapa: {both, (*session).capa},
		pop3.VerbLang: {both, (*session).setLang},
		pop3.VerbQuit: {both, (*session).quit},
		pop3.VerbStat: {stateTransaction, (*session).stat},
		pop3.VerbList: {stateTransaction, (*session).list},
		pop3.VerbUidl: {stateTransaction, (*session).uidl},
		pop3.VerbRetr: {stateTransaction, (*session).retrieve},
		pop3.VerbTop:  {stateTransaction, (*session).top},
		pop3.VerbDele: {stateTransaction, (*session).remove},
		pop3.VerbRset: {stateTransaction, (*session).reset},
		pop3.VerbNoop: {stateTransaction, (*session).noop},
	}
}

// enter is the one place that changes the state. A state's data begins and ends
// with it.
func (s *session) enter(st state, t *transaction) {
	if s.trans != nil && s.trans != t {
		s.trans.drop.Close()
	}
	s.state, s.trans = st, t
	if st != stateAuthorization {
		s.auth = authorization{utf8: s.auth.utf8}
	}
}

// refusal is a -ERR reply whose text is in our languages. It is the error of
// handlers; err is the cause for the log.
type refusal struct {
	code  pop3.ResponseCode
	text  pop3.Text
	err   error
	fault bool // the peer broke the protocol: counts towards MaxErrors
	end   bool // the session ends after the reply
}

func (r *refusal) Error() string {
	e := pop3.Error{Code: r.code, Text: r.text.In(pop3.English), Err: r.err}
	return e.Error()
}

func (r *refusal) Unwrap() error { return r.err }

func refuse(text pop3.Text) error { return &refusal{text: text} }

func fault(text pop3.Text) error { return &refusal{text: text, fault: true} }

// errEnd ends the session after the reply that the handler has put already.
var errEnd = errors.New("session ends")

// dispatch runs one command line and puts its reply. It reports whether the
// session goes on.
func (s *session) dispatch(ctx context.Context, line []byte, lineErr error) bool {
	s.command = time.Now()
	cmd, err := s.parse(line, lineErr)
	if err == nil && s.trans != nil {
		err = s.mayGoOn(ctx, cmd.Verb)
	}
	if err == nil {
		err = s.server.commands[cmd.Verb].handle(s, ctx, cmd)
	}
	on := s.answer(ctx, cmd.Verb, err)
	if h := s.server.config.Hooks.Command; h != nil {
		h(cmd.Verb, err == nil || errors.Is(err, errEnd), time.Since(s.command))
	}
	return on && s.out.err == nil
}

// mayGoOn is asked before each command in the TRANSACTION state.
func (s *session) mayGoOn(ctx context.Context, verb pop3.Verb) error {
	if err := s.stands(ctx, verb); err != nil {
		return err
	}
	return s.keep(ctx, verb)
}

// stands ends the session of an account whose password was changed or that was
// disabled since: whoever stole the password must not read on, nor delete. While
// that can't be found out, a command is refused. A QUIT without marks needs no leave.
func (s *session) stands(ctx context.Context, verb pop3.Verb) error {
	ids, t := s.server.config.Identities, s.trans
	switch {
	case ids == nil, verb == pop3.VerbQuit && t.deleted.n == 0, verb != pop3.VerbQuit && s.command.Sub(t.stood) < StandingFor:
		return nil
	}
	ok, err := ids.Stands(ctx, s.identity)
	if err != nil {
		err = fmt.Errorf("judge account %d: %w", s.identity.Account, err)
		if verb == pop3.VerbQuit {
			return &refusal{code: pop3.CodeSysTemp, text: pop3.TextRemoveFailed, err: err, end: true}
		}
		return &refusal{code: pop3.CodeSysTemp, text: pop3.TextTemporary, err: err}
	}
	if !ok {
		s.why = "account changed"
		return &refusal{code: pop3.CodeAuth, text: pop3.TextChanged, end: true}
	}
	t.stood = s.command
	return nil
}

// keep shows a maildrop that could be taken over that its session lives. QUIT is
// always obeyed: what it would remove is guarded by Remove.
func (s *session) keep(ctx context.Context, verb pop3.Verb) error {
	if s.trans.keeper == nil || verb == pop3.VerbQuit {
		return nil
	}
	return s.trans.keeper.Keep(ctx)
}

// parse turns a line into a command that is allowed in the state.
func (s *session) parse(line []byte, err error) (pop3.Command, error) {
	if err != nil {
		return pop3.Command{}, fault(pop3.TextTooLong)
	}
	cmd, err := pop3.ParseCommand(line)
	switch {
	case err == nil:
		if s.server.commands[cmd.Verb].states&s.state == 0 {
			return cmd, fault(pop3.TextWrongState)
		}
		return cmd, nil
	case errors.Is(err, pop3.ErrTooLong):
		return cmd, fault(pop3.TextTooLong)
	case errors.Is(err, pop3.ErrOctets):
		return cmd, fault(pop3.TextOctets)
	case errors.Is(err, pop3.ErrArguments):
		return cmd, fault(pop3.TextArguments)
	}
	return cmd, fault(pop3.TextUnknown)
}

// answer puts the -ERR reply for err, if it is one, and says whether the session
// goes on.
func (s *session) answer(ctx context.Context, verb pop3.Verb, err error) bool {
	if err == nil {
		return true
	}
	if errors.Is(err, errEnd) {
		return false
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		if r.fault && !s.bad(ctx) {
			r = &refusal{text: pop3.TextTooManyErrors, end: true}
			s.why = "errors"
		}
		if r.err != nil {
			s.logFailure(verb, r)
		}
		s.errReply(r.code, r.text.In(s.lang))
		return !r.end
	}
	if e, ok := errors.AsType[*pop3.Error](err); ok {
		if e.Err != nil {
			s.logFailure(verb, err)
		}
		s.errReply(e.Code, e.In(s.lang))
		return true
	}
	s.logFailure(verb, err)
	s.errReply(pop3.CodeSysTemp, pop3.TextTemporary.In(s.lang))
	return true
}

// bad counts a command that broke the protocol, and slows the peer down after
// the first few. It reports whether the session goes on.
func (s *session) bad(ctx context.Context) bool {
	s.errors++
	if s.errors >= s.server.config.MaxErrors {
		return false
	}
	if s.errors > freeErrors {
		s.pause(ctx, s.server.config.ErrorDelay)
	}
	return true
}

// pause waits without holding buffers, until the time, ctx or the server ends.
func (s *session) pause(ctx context.Context, d time.Duration) {
	s.out.release()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-s.server.draining:
	}
}
