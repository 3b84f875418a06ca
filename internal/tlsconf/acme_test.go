package tlsconf_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/tlsconf"
)

// authority is an ACME server (RFC 8555) for one order at a time. It validates
// by TLS-ALPN (RFC 8737) against target, and does not check signatures of requests.
type authority struct {
	t      *testing.T
	server *httptest.Server
	key    *ecdsa.PrivateKey
	root   *x509.Certificate
	target string

	mu         sync.Mutex
	thumbprint string // of the account's key (RFC 7638)
	names      []string
	valid      bool
	failure    string
	chain      []byte
}

const challengeToken = "a-token-of-the-test-authority-0123456789"

func newAuthority(t *testing.T, target string) *authority {
	t.Helper()
	a := &authority{t: t, target: target}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, h := range map[string]func(body) (int, string, any){"/account": a.account, "/order": a.newOrder, "/order/1": a.order, "/authz/1": a.authz,
		"/challenge/1": a.challenge, "/finalize/1": a.finalize} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { a.answer(w, r, h) })
	}
	mux.HandleFunc("/directory", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"newNonce": a.url("/nonce"), "newAccount": a.url("/account"), "newOrder": a.url("/order")})
	})
	mux.HandleFunc("/nonce", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Replay-Nonce", rand.Text()) })
	mux.HandleFunc("POST /cert/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Replay-Nonce", rand.Text())
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		a.mu.Lock()
		defer a.mu.Unlock()
		_, _ = w.Write(a.chain)
	})
	a.server = httptest.NewTLSServer(mux)
	t.Cleanup(a.server.Close)
	return a
}

func (a *authority) url(path string) string { return a.server.URL + path }

// body is a signed request, opened.
type body struct {
	JWK     map[string]string
	Payload map[string]any
}

func (a *authority) answer(w http.ResponseWriter, r *http.Request, h func(body) (int, string, any)) {
	var jws struct{ Protected, Payload string }
	var b body
	var head struct{ JWK map[string]string }
	err := json.NewDecoder(r.Body).Decode(&jws)
	if p, e := base64.RawURLEncoding.DecodeString(jws.Protected); err == nil && e == nil {
		err = json.Unmarshal(p, &head)
		b.JWK = head.JWK
	}
	if p, e := base64.RawURLEncoding.DecodeString(jws.Payload); e == nil && len(p) > 0 {
		err = json.Unmarshal(p, &b.Payload)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	code, location, reply := h(b)
	w.Header().Set("Replay-Nonce", rand.Text())
	w.Header().Set("Content-Type", "application/json")
	if location != "" {
		w.Header().Set("Location", a.url(location))
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(reply)
}

func (a *authority) account(b body) (int, string, any) {
	canonical := fmt.Sprintf(`{"crv":"%s","kty":"%s","x":"%s","y":"%s"}`, b.JWK["crv"], b.JWK["kty"], b.JWK["x"], b.JWK["y"])
	sum := sha256.Sum256([]byte(canonical))
	a.thumbprint = base64.RawURLEncoding.EncodeToString(sum[:])
	return http.StatusCreated, "/account/1", map[string]any{"status": "valid", "contact": b.Payload["contact"]}
}

func (a *authority) newOrder(b body) (int, string, any) {
	a.names, a.valid, a.chain = nil, false, nil
	list, _ := b.Payload["identifiers"].([]any)
	for _, x := range list {
		if id, ok := x.(map[string]any); ok {
			a.names = append(a.names, fmt.Sprint(id["value"]))
		}
	}
	return http.StatusCreated, "/order/1", a.orderObject()
}

func (a *authority) orderObject() map[string]any {
	o := map[string]any{"status": "pending", "authorizations": []string{a.url("/authz/1")}, "finalize": a.url("/finalize/1"),
		"identifiers": []map[string]string{{"type": "dns", "value": strings.Join(a.names, " ")}}}
	if a.valid {
		o["status"] = "ready"
	}
	if a.chain != nil {
		o["status"], o["certificate"] = "valid", a.url("/cert/1")
	}
	return o
}

func (a *authority) order(body) (int, string, any) { return http.StatusOK, "", a.orderObject() }

func (a *authority) challengeObject() map[string]any {
	c := map[string]any{"type": "tls-alpn-01", "url": a.url("/challenge/1"), "token": challengeToken, "status": "pending"}
	if a.valid {
		c["status"] = "valid"
	}
	if a.failure != "" {
		c["status"], c["error"] = "invalid", map[string]string{"type": "urn:ietf:params:acme:error:unauthorized", "detail": a.failure}
	}
	return c
}

func (a *authority) authz(body) (int, string, any) {
	c := a.challengeObject()
	return http.StatusOK, "", map[string]any{"status": c["status"], "challenges": []any{c}, "identifier": map[string]string{"type": "dns", "value": a.names[0]}}
}

// challenge validates: the certificate shown for acme-tls/1 carries the hash of
// the key authorization (RFC 8737 §3).
func (a *authority) challenge(body) (int, string, any) {
	d := &net.Dialer{Timeout: 5 * time.Second}
	conn, err := tls.DialWithDialer(d, "tcp", a.target, &tls.Config{ServerName: a.names[0], NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
	if err != nil {
		a.failure = err.Error()
		return http.StatusOK, "", a.challengeObject()
	}
	defer conn.Close()
	state := conn.ConnectionState()
	want := sha256.Sum256([]byte(challengeToken + "." + a.thumbprint))
	for _, e := range state.PeerCertificates[0].Extensions {
		if e.Id.String() == "1.3.6.1.5.5.7.1.31" && slices.Equal(e.Value[2:], want[:]) && state.NegotiatedProtocol == "acme-tls/1" {
			a.valid = true
		}
	}
	if !a.valid {
		a.failure = "the certificate shown does not answer the challenge"
	}
	return http.StatusOK, "", a.challengeObject()
}

func (a *authority) finalize(b body) (int, string, any) {
	der, err := base64.RawURLEncoding.DecodeString(fmt.Sprint(b.Payload["csr"]))
	if err != nil {
		return http.StatusBadRequest, "", nil
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || !a.valid {
		return http.StatusForbidden, "", nil
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(12 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leaf, err := x509.CreateCertificate(rand.Reader, tmpl, a.root, csr.PublicKey, a.key)
	if err != nil {
		return http.StatusInternalServerError, "", nil
	}
	a.chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
	a.chain = append(a.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})...)
	return http.StatusOK, "/order/1", a.orderObject()
}

// TestACME obtains a certificate from the authority over our own HTTPS listener;
// until it is there, the self-signed one serves.
func TestACME(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, l.Addr().String())
	dir := t.TempDir()
	root := filepath.Join(dir, "root.pem")
	write(t, root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw}))
	const host = "mail.example.org"
	certs := load(t, tlsconf.Config{Mode: tlsconf.ACME, Names: []string{host}, Dir: filepath.Join(dir, "tls"), Save: save,
		Authority: tlsconf.Authority{Directory: a.url("/directory"), Email: "ala@example.org", Root: root, Host: "127.0.0.1", TLSPort: l.Addr().(*net.TCPAddr).Port}})
	if list := certs.List(); len(list) != 1 || !list[0].SelfSigned {
		t.Errorf("before: got %+v, want the self-signed certificate", list)
	}
	if got := name(t, certs, host); got != host {
		t.Errorf("before: served %q", got)
	}
	https := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan error, 2)
	go func() { served <- https.Serve(tls.NewListener(l, certs.HTTPS())) }()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- certs.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		https.Close()
		<-served
		<-served
	})
	deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for certs.List()[0].SelfSigned {
		select {
		case <-deadline:
			a.mu.Lock()
			defer a.mu.Unlock()
			t.Fatalf("no certificate: validated %v, failure %q", a.valid, a.failure)
		case <-tick.C:
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	if _, _, err := shake(t, certs.Server(tlsconf.MTA), &tls.Config{ServerName: host, RootCAs: pool}); err != nil {
		t.Errorf("the certificate obtained is not served on port 25: %v", err)
	}
	if _, _, err := shake(t, certs.Server(tlsconf.People), &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Errorf("without a server name: %v", err)
	}
	further(t, ctx, certs, pool, deadline)
}

// further adds a name while the server runs, and takes it away again.
func further(t *testing.T, ctx context.Context, certs *tlsconf.Certs, pool *x509.CertPool, deadline <-chan time.Time) {
	t.Helper()
	const name = "autoconfig.example.org"
	shows := func() bool {
		_, _, err := shake(t, certs.Server(tlsconf.People), &tls.Config{ServerName: name, RootCAs: pool})
		return err == nil
	}
	if shows() {
		t.Fatal("a certificate that nobody asked for")
	}
	if err := certs.SetExtra(ctx, []string{name}); err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(20 * time.Millisecond); !shows(); {
		select {
		case <-deadline:
			t.Fatal("no certificate for the further name")
		case <-tick.C:
		}
	}
	if n := len(certs.List()); n != 2 || len(certs.Extra()) != 1 {
		t.Errorf("%d certificates, further names %q", n, certs.Extra())
	}
	if err := certs.SetExtra(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if shows() || len(certs.List()) != 1 {
		t.Error("the further name is still served")
	}
}
