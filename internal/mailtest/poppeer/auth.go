package poppeer

import (
	"context"
	"crypto/x509"
	"slices"
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
	return sasl.Identity{Account: 1, Login: a.login}, nil
}

// exchange begins the server's side of a mechanism; nil when there is none.
func (s *session) exchange(mechanism string) sasl.Exchange {
	switch {
	case !slices.Contains(s.p.cfg.Mechanisms, mechanism):
		return nil
	case mechanism == sasl.OAuthBearer || mechanism == sasl.XOAuth2:
		return &tokens{token: s.p.cfg.Token, login: s.p.cfg.Login}
	}
	o := sasl.Options{Verifier: account{s.p.cfg.Login, s.p.cfg.Password}, TLS: s.tls != nil, Binding: sasl.BindingOf(s.tls, nil), PlaintextAllowed: true}
	if s.tls != nil && len(s.tls.PeerCertificates) > 0 {
		o.Cert = s.tls.PeerCertificates[0]
	}
	if !slices.Contains(s.p.cfg.Mechanisms, sasl.ScramSHA256Plus) {
		o.Binding = sasl.Binding{}
	}
	x, err := sasl.New(mechanism, o)
	if err != nil {
		return nil
	}
	return x
}

// tokens takes an access token.
type tokens struct {
	token, login string
	refused      bool
}

// Identity implements sasl.Exchange.
func (t *tokens) Identity() sasl.Identity { return sasl.Identity{Account: 1, Login: t.login} }

// Next implements sasl.Exchange.
func (t *tokens) Next(_ context.Context, response []byte) ([]byte, bool, error) {
	switch {
	case t.refused:
		return nil, false, sasl.ErrCredentials
	case response == nil:
		return []byte{}, false, nil
	case t.token != "" && strings.Contains(string(response), "\x01auth=Bearer "+t.token+"\x01"):
		return nil, true, nil
	}
	t.refused = true
	return []byte(`{"status":"invalid_token","scope":"pop"}`), false, nil
}

// auth answers AUTH; a rule at Auth applies to each of its replies.
func (s *session) auth(arg string) bool {
	mechanism, initial, _ := strings.Cut(arg, " ")
	x := s.exchange(strings.ToUpper(mechanism))
	if x == nil {
		return s.answer(Auth, arg, "-ERR no such mechanism")
	}
	response, err := sasl.DecodeInitial([]byte(initial))
	for {
		if err != nil {
			return s.answer(Auth, arg, "-ERR cancelled or malformed")
		}
		challenge, done, nextErr := x.Next(context.Background(), response)
		if nextErr != nil || done {
			return s.enter(Auth, arg, strings.ToUpper(mechanism), done)
		}
		if yes, ok := s.decide(Auth, arg, reply{status: "+ " + sasl.EncodeChallenge(challenge)}); !ok || !yes {
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
