// Package droptest holds maildrops and credentials in memory, for tests and
// benchmarks of POP3.
package droptest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/sasl"
)

// Message is a message of a maildrop: CRLF lines, not byte-stuffed.
type Message struct {
	UniqueID string
	Octets   []byte
	// Surrogate is what sessions without UTF8 get; nil means Octets.
	Surrogate []byte
	// ReadErr is returned at the end of Octets, ReadShort octets before it.
	ReadErr   error
	ReadShort int
	// Extra comes behind Octets, though not counted.
	Extra []byte
}

// Post is a set of accounts with their maildrops. It is pop3server.Maildrops and
// sasl.Verifier. Safe for concurrent use.
type Post struct {
	mu        sync.Mutex
	passwords map[string]string
	drops     map[string][]Message
	openErr   error
	removeErr error
	opened    int
}

// New makes a Post with one account per login, all with the password.
func New(password string, logins ...string) *Post {
	p := &Post{passwords: map[string]string{}, drops: map[string][]Message{}}
	for _, l := range logins {
		p.passwords[l] = password
		p.drops[l] = nil
	}
	return p
}

// Fill replaces the messages of a login.
func (p *Post) Fill(login string, messages ...Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drops[login] = messages
}

// Messages returns the messages of a login.
func (p *Post) Messages(login string) []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drops[login]
}

// Fail sets what Open and Remove return; nil is success.
func (p *Post) Fail(open, remove error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.openErr, p.removeErr = open, remove
}

// Opened tells how many maildrops are open.
func (p *Post) Opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

// Open is pop3server.Maildrops.
func (p *Post) Open(_ context.Context, id sasl.Identity, utf8 bool) (pop3server.Maildrop, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.openErr != nil {
		return nil, p.openErr
	}
	d := &drop{post: p, login: id.Login, messages: p.drops[id.Login], utf8: utf8}
	for _, m := range d.messages {
		d.total += int64(len(d.text(m)))
	}
	p.opened++
	return d, nil
}

type drop struct {
	post     *Post
	login    string
	messages []Message
	utf8     bool
	total    int64
	closed   bool
}

func (d *drop) text(m Message) []byte {
	if !d.utf8 && m.Surrogate != nil {
		return m.Surrogate
	}
	return m.Octets
}

func (d *drop) Len() int           { return len(d.messages) }
func (d *drop) TotalOctets() int64 { return d.total }
func (d *drop) Octets(i int) int64 { return int64(len(d.text(d.messages[i]))) }

func (d *drop) AppendUniqueID(b []byte, i int) []byte { return append(b, d.messages[i].UniqueID...) }

func (d *drop) Read(_ context.Context, i int) (io.ReadCloser, bool, error) {
	m := d.messages[i]
	text := d.text(m)
	dots := bytes.HasPrefix(text, []byte(".")) || bytes.Contains(text, []byte("\n."))
	if m.ReadErr != nil {
		return io.NopCloser(io.MultiReader(bytes.NewReader(text[:len(text)-m.ReadShort]), failing{m.ReadErr})), dots, nil
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(text), bytes.NewReader(m.Extra))), dots, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (d *drop) Remove(_ context.Context, indexes []int) error {
	d.post.mu.Lock()
	defer d.post.mu.Unlock()
	if d.post.removeErr != nil {
		return d.post.removeErr
	}
	gone := map[string]bool{}
	for _, i := range indexes {
		gone[d.messages[i].UniqueID] = true
	}
	var left []Message
	for _, m := range d.post.drops[d.login] {
		if !gone[m.UniqueID] {
			left = append(left, m)
		}
	}
	d.post.drops[d.login] = left
	return nil
}

func (d *drop) Close() {
	d.post.mu.Lock()
	defer d.post.mu.Unlock()
	if !d.closed {
		d.closed = true
		d.post.opened--
	}
}

// VerifyPlain is sasl.Verifier.
func (p *Post) VerifyPlain(_ context.Context, _ sasl.Peer, authzid, authcid, password string) (sasl.Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	want, ok := p.passwords[authcid]
	if !ok || want != password || authzid != "" && authzid != authcid {
		return sasl.Identity{}, fmt.Errorf("verify: %w", sasl.ErrCredentials)
	}
	return p.identity(authcid), nil
}

func (p *Post) identity(login string) sasl.Identity {
	sum := sha256.Sum256([]byte(login))
	return sasl.Identity{Account: envelope.AccountID(int64(sum[0])<<8 | int64(sum[1]) | 1<<20), Login: login, Version: 1}
}

// ScramKeys is sasl.Verifier.
func (p *Post) ScramKeys(_ context.Context, _ sasl.Peer, authcid string) (sasl.Keys, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := sasl.Keys{Salt: []byte("salt of " + authcid), Iterations: 4096}
	salted, err := pbkdf2.Key(sha256.New, p.passwords[authcid], k.Salt, k.Iterations, sha256.Size)
	if err != nil {
		return k, err
	}
	stored := sha256.Sum256(sign(salted, "Client Key"))
	k.StoredKey, k.ServerKey = stored[:], sign(salted, "Server Key")
	return k, nil
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// ScramResult is sasl.Verifier.
func (p *Post) ScramResult(_ context.Context, _ sasl.Peer, authzid, authcid string, ok bool) (sasl.Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.passwords[authcid]; !ok || !known || authzid != "" && authzid != authcid {
		return sasl.Identity{}, fmt.Errorf("verify: %w", sasl.ErrCredentials)
	}
	return p.identity(authcid), nil
}

// VerifyExternal is sasl.Verifier: the certificate's common name is the login.
func (p *Post) VerifyExternal(_ context.Context, _ sasl.Peer, authzid string, cert *x509.Certificate) (sasl.Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	login := cert.Subject.CommonName
	if _, known := p.passwords[login]; !known || authzid != "" && authzid != login {
		return sasl.Identity{}, fmt.Errorf("verify: %w", sasl.ErrCredentials)
	}
	return p.identity(login), nil
}

// Certificate makes a self-signed certificate for localhost and 127.0.0.1, and
// the pool that trusts it.
func Certificate() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool, nil
}

// ErrDisk is a cause for Fail.
var ErrDisk = errors.New("disk is on fire")
