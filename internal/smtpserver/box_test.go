package smtpserver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/transcript"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
)

// letter is what a box has taken.
type letter struct {
	Envelope envelope.Envelope
	Session  smtpserver.Session
	Data     string
}

// box is a Service that keeps what it gets. Local-parts ask for behaviour: see Rcpt and Data.
type box struct {
	mu      sync.Mutex
	letters []letter
	aborts  int
	open    int // transactions without an end
}

func (b *box) Begin(_ context.Context, s *smtpserver.Session, env envelope.Envelope) (smtpserver.Transaction, error) {
	switch env.ReversePath.Address().Local() {
	case "banned":
		return nil, smtp.Refuse(550, 7, 1, "Not from you")
	case "panic":
		panic("asked for by the test")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open++
	return &boxTransaction{box: b, letter: letter{Envelope: env, Session: *s}}, nil
}

func (b *box) taken() []letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.letters
}

type boxTransaction struct {
	box    *box
	letter letter
	ended  bool
}

func (t *boxTransaction) Rcpt(_ context.Context, r envelope.Recipient) error {
	switch r.ForwardPath.Address().Local() {
	case "nobody":
		return smtp.Refuse(550, 1, 1, "No such user here")
	case "full":
		return smtp.Refuse(452, 2, 2, "Mailbox is full")
	case "ended":
		return smtp.Refuse(421, 7, 0, "Your account has changed")
	case "fault":
		return errors.New("database is on fire")
	}
	t.letter.Envelope.Recipients = append(t.letter.Envelope.Recipients, r)
	return nil
}

func (t *boxTransaction) end() {
	if t.ended {
		panic("a transaction ended twice")
	}
	t.ended = true
	t.box.open--
}

func (t *boxTransaction) Data(_ context.Context, msg io.Reader) (smtpserver.Outcome, error) {
	var out smtpserver.Outcome
	var data bytes.Buffer
	var err error
	early := false
	switch t.letter.Envelope.ReversePath.Address().Local() {
	case "early": // fails without having read
		early, err = true, smtp.Refuse(554, 6, 0, "Not this")
	case "deaf": // takes a read error for the end
		_, _ = io.Copy(&data, msg)
	case "lazy": // breaks the contract
		_, err = io.ReadFull(msg, make([]byte, 1))
	default:
		_, err = io.Copy(&data, msg)
	}
	t.box.mu.Lock()
	defer t.box.mu.Unlock()
	t.end()
	if err != nil {
		if !early {
			err = fmt.Errorf("stage message: %w", err)
		}
		return out, err
	}
	t.letter.Data = data.String()
	t.box.letters = append(t.box.letters, t.letter)
	out.Reply = smtp.Reply{Code: 250, Text: "Took " + strconv.Itoa(data.Len()) + " octets"}
	for _, r := range t.letter.Envelope.Recipients {
		reply := out.Reply
		if r.ForwardPath.Address().Local() == "late" {
			reply = smtp.Reply{Code: 452, Subject: 2, Detail: 2, Text: "Mailbox has filled up"}
		}
		out.Recipients = append(out.Recipients, reply)
	}
	return out, nil
}

func (t *boxTransaction) Abort() {
	t.box.mu.Lock()
	defer t.box.mu.Unlock()
	t.box.aborts++
	t.end()
}

// verifier knows ala with the password "kot", and "off" who is disabled.
type verifier struct{ sasl.Verifier }

func (verifier) VerifyPlain(_ context.Context, _ sasl.Peer, _, authcid, password string) (sasl.Identity, error) {
	switch {
	case authcid == "ala" && password == "kot":
		return sasl.Identity{Account: 7, Login: "ala@example.org"}, nil
	case authcid == "off":
		return sasl.Identity{}, fmt.Errorf("look up off: %w", sasl.ErrDisabled)
	case authcid == "often":
		return sasl.Identity{}, sasl.ErrThrottled
	case authcid == "broken":
		return sasl.Identity{}, errors.New("database is on fire")
	}
	return sasl.Identity{}, sasl.ErrCredentials
}

func (verifier) VerifyExternal(_ context.Context, _ sasl.Peer, _ string, cert *x509.Certificate) (sasl.Identity, error) {
	return sasl.Identity{Account: 8, Login: cert.Subject.CommonName}, nil
}

// certificates makes the TLS configurations of a server and of a client with a certificate.
var certificates = sync.OnceValues(func() (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.example.org"}, DNSNames: []string{"mx.example.org"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(100 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	pair := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	server = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	client = &tls.Config{RootCAs: pool, ServerName: "mx.example.org", Certificates: []tls.Certificate{pair}}
	return server, client
})

// house is a server with its listener and its box.
type house struct {
	*smtpserver.Server
	box    *box
	listen *memconn.Listener
	served chan error
}

// open starts a server in memory; it is shut down at the test's end, which must
// leave no transaction without an end.
func open(t testing.TB, cfg smtpserver.Config) *house {
	t.Helper()
	h := &house{box: &box{}, listen: memconn.Listen(), served: make(chan error, 1)}
	cfg.Hostname = "mx.example.org"
	if cfg.Service == nil {
		cfg.Service = h.box
	}
	srv, err := smtpserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Server = srv
	go func() { h.served <- srv.Serve(context.Background(), h.listen) }()
	t.Cleanup(func() {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(gone) // cuts sessions off
		if err := <-h.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		h.box.mu.Lock()
		defer h.box.mu.Unlock()
		if h.box.open != 0 {
			t.Errorf("%d transactions were neither aborted nor given data", h.box.open)
		}
	})
	return h
}

func (h *house) dial(t testing.TB) *memconn.Conn {
	t.Helper()
	c, err := h.listen.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// run plays a dialogue, in the notation of package transcript, over conn.
func run(t testing.TB, conn net.Conn, dialogue string) {
	t.Helper()
	scripts, err := transcript.Parse("dialogue", dialogue)
	if err != nil {
		t.Fatal(err)
	}
	_, client := certificates()
	if err := (transcript.Runner{TLS: client}).Run(&scripts[0], conn); err != nil {
		t.Error(err)
	}
}

// everybody is every address there is.
func everybody() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// configure makes the configuration that a script's options ask for.
func configure(t testing.TB, options map[string]string) smtpserver.Config {
	t.Helper()
	var cfg smtpserver.Config
	server, _ := certificates()
	number := func(v string) int {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for k, v := range options {
		switch k + "=" + v {
		case "lmtp=yes":
			cfg.LMTP = true
		case "tls=start":
			cfg.TLS = server
		case "tls=implicit":
			cfg.TLS, cfg.ImplicitTLS = server, true
		case "tls=required":
			cfg.TLS, cfg.RequireTLS = server, true
		case "auth=yes":
			cfg.Auth.Verifier = verifier{}
		case "auth=login":
			cfg.Auth.Verifier, cfg.Auth.Mechanisms = verifier{}, []string{"LOGIN"}
		case "auth=tls":
			cfg.Auth.Verifier, cfg.Auth.RequireTLS = verifier{}, true
		case "plaintext=yes":
			cfg.Auth.PlaintextFrom = everybody()
		case "xclient=yes":
			cfg.XClientFrom = everybody()
			cfg.LoginIdentity = func(_ context.Context, login string) (sasl.Identity, error) {
				if login != "ala" {
					return sasl.Identity{}, sasl.ErrCredentials
				}
				return sasl.Identity{Account: 7, Login: "ala@example.org"}, nil
			}
		case "xclient=others":
			cfg.XClientFrom = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		case "proxy=yes":
			cfg.ProxyFrom = everybody()
		case "strict=nul":
			cfg.Strict.NUL = true
		case "strict=lines":
			cfg.Strict.LongLines = true
		case "strict=8bit":
			cfg.Strict.Undeclared8Bit = true
		case "xverp=yes":
			cfg.Extensions.XVERP = true
		case "requiretls=yes":
			cfg.Extensions.RequireTLS = true
		case "etrn=yes":
			cfg.Service = starter{&box{}, true}
		case "etrn=others":
			cfg.Service = starter{&box{}, false}
		case "admit=no":
			cfg.Admit = func(netip.AddrPort) (func(), error) { return nil, errors.New("too many") }
		default:
			n := number(v)
			switch k {
			case "size":
				cfg.Limits.Message = int64(n)
			case "rcptmax":
				cfg.Limits.Recipients = n
			case "mailmax":
				cfg.Limits.Transactions = n
			case "errors":
				cfg.Limits.Errors = n
			case "refusals":
				cfg.Limits.Refusals = n
			case "idle":
				cfg.Limits.Idle = n
			case "hold":
				cfg.Extensions.FutureRelease = time.Duration(n) * time.Second
			case "by":
				cfg.Extensions.DeliverBy, cfg.Extensions.MinDeliverBy = true, time.Duration(n)*time.Second
			case "priority":
				cfg.Extensions.Priority, cfg.Extensions.HighestPriority = true, n
			case "authfailures":
				cfg.Limits.AuthFailures = n
			default:
				t.Fatalf("option %s=%s is not known", k, v)
			}
		}
	}
	return cfg
}
