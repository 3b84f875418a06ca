package discover_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/discover"
	"poczta.example/poczta/internal/resolver"
)

// world is a network in memory: names, web servers and mail servers.
type world struct {
	t    *testing.T
	ca   *certtest.CA
	zone strings.Builder

	mu     sync.Mutex
	places map[string]func(context.Context) (net.Conn, error) // by host:port
	dialed []string
	asked  []string // requests to web servers, with their bodies
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, ca: certtest.New(t), places: map[string]func(context.Context) (net.Conn, error){}}
}

// dns adds zone lines.
func (w *world) dns(lines ...string) {
	for _, l := range lines {
		w.zone.WriteString(l + "\n")
	}
}

// host gives a name an address.
func (w *world) host(name string) { w.dns(name + ". A 192.0.2.1") }

// web serves h at https://host, with a certificate of the world's authority unless
// another is given.
func (w *world) web(host string, h http.HandlerFunc, certs ...tls.Certificate) {
	w.t.Helper()
	if len(certs) == 0 {
		certs = []tls.Certificate{w.ca.Leaf(host)}
	}
	w.host(host)
	l := memconn.Listen()
	srv := &http.Server{TLSConfig: &tls.Config{Certificates: certs}, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.asked = append(w.asked, r.Method+" https://"+r.Host+r.URL.String()+" "+string(body))
		w.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		h(rw, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(l, "", "")
	}()
	w.t.Cleanup(func() { _ = srv.Close(); <-done })
	w.places[net.JoinHostPort(host, "443")] = func(ctx context.Context) (net.Conn, error) { return l.Dial(ctx) }
}

// secure is a server's TLS for a host.
func (w *world) secure(host string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{w.ca.Leaf(host)}}
}

// pop serves POP3 at host:port; 995 is under TLS from the first octet. The account is
// that of the configuration, or ala@example.org with the password secret.
func (w *world) pop(hostport string, c poppeer.Config) *poppeer.Peer {
	w.t.Helper()
	host, port, _ := net.SplitHostPort(hostport)
	if c.TLS == nil {
		c.TLS = w.secure(host)
	}
	if c.Login == "" {
		c.Login, c.Password = "ala@example.org", "secret"
	}
	c.ImplicitTLS = port == "995"
	p := poppeer.Start(w.t, c)
	w.places[hostport] = func(context.Context) (net.Conn, error) { return p.Dial(), nil }
	return p
}

// smtp serves submission at host:port; 465 is under TLS from the first octet.
func (w *world) smtp(hostport string, c peer.Config) *peer.Peer {
	w.t.Helper()
	host, port, _ := net.SplitHostPort(hostport)
	if c.TLS == nil {
		c.TLS = w.secure(host)
	}
	if c.Login == "" {
		c.Login, c.Password = "ala@example.org", "secret"
	}
	c.ImplicitTLS = port == "465"
	p := peer.Start(w.t, c)
	w.places[hostport] = func(context.Context) (net.Conn, error) { return p.Dial(), nil }
	return p
}

// servers are a whole provider at one host: 995 and 465.
func (w *world) servers(host string) (*poppeer.Peer, *peer.Peer) {
	w.t.Helper()
	w.host(host)
	return w.pop(host+":995", poppeer.Config{}), w.smtp(host+":465", peer.Config{})
}

// silent is a place that takes connections and says nothing.
func (w *world) silent(hostport string) {
	var held []net.Conn
	w.places[hostport] = func(context.Context) (net.Conn, error) {
		client, server := memconn.Pair()
		w.mu.Lock()
		held = append(held, server)
		w.mu.Unlock()
		return client, nil
	}
	w.t.Cleanup(func() {
		for _, c := range held {
			_ = c.Close()
		}
	})
}

// finder makes a Finder that lives in the world.
func (w *world) finder() *discover.Finder {
	w.t.Helper()
	return w.finderWith(w.ca.Pool())
}

func (w *world) finderWith(roots *x509.CertPool) *discover.Finder {
	w.t.Helper()
	zone, err := resolver.NewZone(w.zone.String())
	if err != nil {
		w.t.Fatal(err)
	}
	f, err := discover.New(discover.Config{Resolver: zone, Roots: roots, Dial: func(ctx context.Context, _, hostport string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(hostport)
		if _, err := resolver.Addrs(ctx, zone, host); err != nil {
			return nil, err
		}
		w.mu.Lock()
		w.dialed = append(w.dialed, hostport)
		place := w.places[hostport]
		w.mu.Unlock()
		if place == nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		return place(ctx)
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

func person(t *testing.T, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// find looks for ala@example.org.
func (w *world) find() *discover.Report {
	w.t.Helper()
	r, err := w.finder().Find(w.t.Context(), person(w.t, "ala@example.org"))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// text is a page with a status.
func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// to leads elsewhere.
func to(url string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusFound) }
}

// results are the outcomes of a source, in order.
func results(r *discover.Report, s discover.Source) []discover.Result {
	var out []discover.Result
	for _, x := range r.Steps {
		if x.Source == s {
			out = append(out, x.Result)
		}
	}
	return out
}

// tell writes a report for a failed test.
func tell(r *discover.Report) string {
	var b strings.Builder
	for _, s := range r.Steps {
		b.WriteString(string(s.Source) + ": " + s.Text("en") + "\n")
	}
	for _, c := range r.Candidates {
		for _, s := range slices.Concat(c.Incoming, c.Outgoing) {
			b.WriteString("  candidate " + string(c.Source) + " " + string(s.Protocol) + " " + s.Host + " " + string(s.Security) + " " + string(s.Trust) + "\n")
		}
	}
	return b.String()
}

// tlsOf is a server's TLS with one certificate.
func tlsOf(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
