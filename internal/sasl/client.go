package sasl

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The mechanisms of OAuth 2.0 access tokens. XOAUTH2 was never specified by a standard:
// it is what large providers had before RFC 7628.
const (
	OAuthBearer = "OAUTHBEARER"
	XOAuth2     = "XOAUTH2"
)

// Errors of a client's exchange.
var (
	// ErrServerProof means that the server has not shown that it knows the password's keys
	// (RFC 5802 §5): it is not whom it claims to be.
	ErrServerProof = errors.New("server did not prove that it knows the account")
	// ErrChallenge means that a challenge does not fit the mechanism.
	ErrChallenge = errors.New("server's challenge does not fit the mechanism")
	// ErrCredentialOctets means that a name, password or token can't be sent.
	ErrCredentialOctets = errors.New("name, password or token holds octets that can't be sent")
)

// Credentials are a login at another server. What is "" or false is not there.
type Credentials struct {
	Username string
	Password string
	// Token is an OAuth 2.0 access token (RFC 6749 §1.4), for OAUTHBEARER and XOAUTH2.
	Token string
	// Certificate says that the connection's TLS has presented a client certificate which
	// is to speak for the person: EXTERNAL.
	Certificate bool
	// Mechanisms are those that may be used, best first; empty means EXTERNAL with a
	// certificate, else OAUTHBEARER and XOAUTH2 with a token, else SCRAM-SHA-256-PLUS,
	// SCRAM-SHA-256, PLAIN and LOGIN.
	Mechanisms []string
}

// String tells no secrets, so that credentials may come near a log.
func (c Credentials) String() string { return fmt.Sprintf("credentials of %q", c.Username) }

// GoString returns what String returns.
func (c Credentials) GoString() string { return c.String() }

// Allowed returns the mechanisms that may be used, in capitals, best first.
func (c Credentials) Allowed() []string {
	switch {
	case len(c.Mechanisms) > 0:
		up := make([]string, len(c.Mechanisms))
		for i, name := range c.Mechanisms {
			up[i] = strings.ToUpper(name)
		}
		return up
	case c.Certificate:
		return []string{External}
	case c.Token != "":
		return []string{OAuthBearer, XOAuth2}
	}
	return []string{ScramSHA256Plus, ScramSHA256, Plain, Login}
}

// ClientOptions is the state of a client's connection as far as mechanisms depend on it.
type ClientOptions struct {
	// Offered are the server's mechanisms, in capitals.
	Offered []string
	// TLS is the state of the connection's TLS; nil without.
	TLS *tls.ConnectionState
	// Plaintext admits PLAIN, LOGIN and the mechanisms of tokens without TLS.
	Plaintext bool
	// Host and Port are the server's, which OAUTHBEARER tells (RFC 7628 §3.1); "" and 0
	// leave them out.
	Host string
	Port int
}

// Client is the client's side of one authentication, a state machine over octets without
// base64. It is used by one goroutine, once.
type Client struct {
	name    string
	initial []byte
	next    func(challenge []byte) ([]byte, error)
	proven  func() bool
	failure string
}

// NewClient begins an exchange by the first mechanism that c allows, the server offers and
// the connection admits. Nil without an error means that there is none. The error is
// ErrCredentialOctets, wrapped, or that of preparing a password (RFC 4013).
func NewClient(c Credentials, o ClientOptions) (*Client, error) {
	safe := o.TLS != nil || o.Plaintext
	for _, name := range c.Allowed() {
		if !slices.Contains(o.Offered, name) {
			continue
		}
		switch {
		case name == ScramSHA256Plus && o.TLS != nil, name == ScramSHA256:
			return scramClient(name, c, o)
		case name == Plain && safe:
			return plainClient(c)
		case name == Login && safe:
			return loginClient(c), nil
		case name == External && o.TLS != nil && c.Certificate:
			return externalClient(), nil
		case name == OAuthBearer && safe && c.Token != "":
			return bearerClient(c, o)
		case name == XOAuth2 && safe && c.Token != "":
			return xoauth2Client(c)
		}
	}
	return nil, nil
}

// Mechanism returns the mechanism's name.
func (x *Client) Mechanism() string { return x.name }

// Initial returns the initial response: nil for none, empty and not nil for an empty one.
func (x *Client) Initial() []byte { return x.initial }

// Next answers a challenge. After an error the exchange is over and ought to be cancelled:
// the error is ErrChallenge or ErrServerProof, wrapped.
func (x *Client) Next(challenge []byte) ([]byte, error) { return x.next(challenge) }

// Proven reports whether the server's success may be believed: with SCRAM, whether it has
// shown that it knows the password's keys.
func (x *Client) Proven() bool { return x.proven() }

// Failure returns what the server has told of a token that it refuses, mostly JSON
// (RFC 7628 §3.2.2); at most 1 KiB, "" for nothing. It is for people and logs.
func (x *Client) Failure() string { return x.failure }

func always() bool { return true }

func unexpected([]byte) ([]byte, error) { return nil, ErrChallenge }

// plainClient is PLAIN (RFC 4616 §2). A server that asks although it got an initial
// response gets none again.
func plainClient(c Credentials) (*Client, error) {
	if strings.Contains(c.Username+c.Password, "\x00") {
		return nil, fmt.Errorf("log in by PLAIN: %w", ErrCredentialOctets)
	}
	return &Client{name: Plain, initial: []byte("\x00" + c.Username + "\x00" + c.Password), proven: always, next: unexpected}, nil
}

// loginClient is LOGIN: name, then password, whatever the prompts say.
func loginClient(c Credentials) *Client {
	answers := []string{c.Username, c.Password}
	return &Client{name: Login, proven: always, next: func([]byte) ([]byte, error) {
		if len(answers) == 0 {
			return nil, ErrChallenge
		}
		a := answers[0]
		answers = answers[1:]
		return []byte(a), nil
	}}
}

// externalClient is EXTERNAL without an authorization identity (RFC 4422 appendix A).
func externalClient() *Client {
	return &Client{name: External, initial: []byte{}, proven: always, next: unexpected}
}

// bearerClient is OAUTHBEARER (RFC 7628 §3.1).
func bearerClient(c Credentials, o ClientOptions) (*Client, error) {
	b := "n,a=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.Username) + ",\x01"
	if o.Host != "" {
		b += "host=" + o.Host + "\x01"
	}
	if o.Port != 0 {
		b += fmt.Sprintf("port=%d\x01", o.Port)
	}
	return tokenClient(OAuthBearer, b+"auth=Bearer "+c.Token+"\x01\x01", []byte{1}, c) // RFC 7628 §3.2.3: the dummy response
}

// xoauth2Client is XOAUTH2; behind the server's word on a failure comes an empty response.
func xoauth2Client(c Credentials) (*Client, error) {
	return tokenClient(XOAuth2, "user="+c.Username+"\x01auth=Bearer "+c.Token+"\x01\x01", []byte{}, c)
}

// tokenClient sends a token, and takes one challenge: why it was refused.
func tokenClient(name, initial string, dummy []byte, c Credentials) (*Client, error) {
	if strings.ContainsAny(c.Username+c.Token, "\x00\x01\r\n") {
		return nil, fmt.Errorf("log in by %s: %w", name, ErrCredentialOctets)
	}
	x := &Client{name: name, initial: []byte(initial)}
	told := false
	x.next = func(challenge []byte) ([]byte, error) {
		if told {
			return nil, ErrChallenge
		}
		told = true
		x.failure = strings.ToValidUTF8(string(challenge[:min(len(challenge), maxFailureOctets)]), "")
		return dummy, nil
	}
	x.proven = func() bool { return !told } // success behind a failure is none
	return x, nil
}

// maxFailureOctets bounds what is kept of a server's word on a token.
const maxFailureOctets = 1024
