package peer

import (
	"context"
	"crypto/x509"
	"strings"

	"github.com/xdg-go/scram"

	"poczta.example/poczta/internal/sasl"
)

// account is a Verifier of one account.
type account struct{ login, password string }

const scramSalt = "0123456789abcdef"

// VerifyPlain implements sasl.Verifier.
func (a account) VerifyPlain(_ context.Context, _ sasl.Peer, _, authcid, password string) (sasl.Identity, error) {
	if authcid != a.login || password != a.password {
		return sasl.Identity{}, sasl.ErrCredentials
	}
	return sasl.Identity{Account: 1, Login: a.login}, nil
}

// ScramKeys implements sasl.Verifier.
func (a account) ScramKeys(context.Context, sasl.Peer, string) (sasl.Keys, error) {
	client, err := scram.SHA256.NewClient(a.login, a.password, "")
	if err != nil {
		return sasl.Keys{}, err
	}
	c, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: scramSalt, Iters: 4096})
	if err != nil {
		return sasl.Keys{}, err
	}
	return sasl.Keys{Salt: []byte(scramSalt), Iterations: 4096, StoredKey: c.StoredKey, ServerKey: c.ServerKey}, nil
}

// ScramResult implements sasl.Verifier.
func (a account) ScramResult(_ context.Context, _ sasl.Peer, _, authcid string, ok bool) (sasl.Identity, error) {
	if !ok || authcid != a.login {
		return sasl.Identity{}, sasl.ErrCredentials
	}
	return sasl.Identity{Account: 1, Login: a.login}, nil
}

// VerifyExternal implements sasl.Verifier.
func (a account) VerifyExternal(context.Context, sasl.Peer, string, *x509.Certificate) (sasl.Identity, error) {
	return sasl.Identity{}, sasl.ErrCredentials
}

// auth answers AUTH; a rule at Auth applies to each of its replies.
func (s *session) auth(arg string) bool {
	mechanism, initial, _ := strings.Cut(arg, " ")
	x, err := sasl.New(mechanism, s.options())
	if err != nil || s.p.cfg.Login == "" {
		return s.answer(Auth, arg, "504 5.5.4 no such mechanism")
	}
	response, err := sasl.DecodeInitial([]byte(initial))
	for {
		if err != nil {
			return s.answer(Auth, arg, "501 5.5.2 cancelled or malformed")
		}
		challenge, done, nextErr := x.Next(context.Background(), response)
		switch {
		case nextErr != nil:
			return s.answer(Auth, arg, "535 5.7.8 who?")
		case done:
			yes, ok := s.decide(Auth, arg, "235 2.7.0 welcome")
			if yes {
				s.login = x.Identity().Login
			}
			return ok
		}
		if yes, ok := s.decide(Auth, arg, "334 "+sasl.EncodeChallenge(challenge)); !ok || !yes {
			return ok
		}
		if s.w.Flush() != nil {
			return false
		}
		line, readErr := s.r.ReadString('\n')
		if readErr != nil {
			return false
		}
		response, err = sasl.DecodeResponse([]byte(strings.TrimRight(line, "\r\n")))
	}
}
