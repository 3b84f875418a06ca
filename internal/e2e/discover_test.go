package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mua/discover"
	"poczta.example/poczta/internal/resolver"
)

// findable is a server that answers mail programs, with certificates of an authority.
type findable struct {
	*server
	ca    *certtest.CA
	lines string // what poczta domain dns prints, for both domains
}

func newFindable(t *testing.T) *findable {
	t.Helper()
	ca := certtest.New(t)
	leaf := ca.Leaf("mx."+domain, "mail."+domain, domain, "autoconfig."+domain, "autodiscover."+domain)
	s := setup(t)
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, keyFile := filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.rewrite(`mode = "self-signed"`, `mode = "files"`)
	s.configure(fmt.Sprintf("[[tls.certificate]]\ncert = %q\nkey = %q", cert, keyFile), "[autoconfig]\nmode = \"on\"\nname = \"Our post\"")
	s.start()
	s.run("", "domain", "add", "second.example")
	s.run(password+"\n", "account", "add", "ola@second.example")
	f := &findable{server: s, ca: ca}
	for _, d := range []string{domain, "second.example"} {
		f.lines += s.run("", "domain", "dns", d)
	}
	return f
}

// dial goes to the server whatever the host; standard ports are moved.
func (f *findable) dial(ctx context.Context, network, hostport string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	if n < 1024 {
		n += f.base
	}
	return new(net.Dialer).DialContext(ctx, network, loopback(n))
}

// finder asks a zone of the lines of domain dns that fit keep, and of others.
func (f *findable) finder(t *testing.T, keep string, others ...string) *discover.Finder {
	t.Helper()
	fits := regexp.MustCompile(keep)
	zone := "mx." + domain + ". A 127.0.0.1\n" + strings.Join(others, "\n") + "\n"
	for line := range strings.Lines(f.lines) {
		if !strings.HasPrefix(line, ";") && fits.MatchString(line) {
			zone += line
		}
	}
	names, err := resolver.NewZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	d, err := discover.New(discover.Config{Resolver: names, Roots: f.ca.Pool(), Request: 10 * time.Second * patience, Total: time.Minute * patience,
		Dial: func(ctx context.Context, network, hostport string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(hostport)
			if err != nil {
				return nil, err
			}
			if _, err := resolver.Addrs(ctx, names, host); err != nil {
				return nil, err
			}
			return f.dial(ctx, network, hostport)
		}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDiscover finds a whole server of ours by each way that it offers, and logs in.
func TestDiscover(t *testing.T) {
	t.Parallel()
	f := newFindable(t)
	for _, c := range []struct {
		name, person string
		keep         string   // of the lines of domain dns
		others       []string // lines
		source       discover.Source
		confirm      bool
	}{
		{"all that domain dns prints", "ala@" + domain, ".", nil, discover.Autoconfig, false},
		{"SRV", "ala@" + domain, `^_(pop3|submission)`, nil, discover.SRV, false},
		{"autoconfig", "ala@" + domain, `^autoconfig\.`, nil, discover.Autoconfig, false},
		{"well-known", "ala@" + domain, `^$`, []string{domain + ". A 127.0.0.1"}, discover.WellKnown, false},
		{"autodiscover", "ala@" + domain, `^autodiscover\.`, nil, discover.Autodiscover, false},
		{"autodiscover by SRV", "ala@" + domain, `^_autodiscover\.`, nil, discover.AutodiscoverSRV, false},
		{"a name that is usual", "ala@" + domain, `^$`, []string{"mail." + domain + ". A 127.0.0.1"}, discover.Guess, false},
		{"another domain by SRV", "ola@second.example", `^_(pop3|submission)`, nil, discover.SRV, true},
		{"another domain by SRV under DNSSEC", "ola@second.example", `^_(pop3|submission)`, []string{"!secure second.example"}, discover.SRV, false},
		{"another domain by its MX host's", "ola@second.example", `^second\.example.* MX |^autoconfig\.` + domain, nil, discover.Exchanger, true},
		{"another domain by autodiscover's SRV", "ola@second.example", `^_autodiscover\._tcp\.second`, nil, discover.AutodiscoverSRV, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			person, err := address.Parse(c.person)
			if err != nil {
				t.Fatal(err)
			}
			d := f.finder(t, c.keep, c.others...)
			r, err := d.Find(t.Context(), person)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Candidates) == 0 || r.Candidates[0].Source != c.source || r.Candidates[0].NeedsConfirmation() != c.confirm {
				for _, s := range r.Steps {
					t.Log(s.Source, s.Text("en"))
				}
				t.Fatalf("got %+v", r.Candidates)
			}
			f.logsIn(t, d, r.Candidates[0])
		})
	}
}

// logsIn tries a candidate with the right password and with a wrong one.
func (f *findable) logsIn(t *testing.T, d *discover.Finder, c discover.Candidate) {
	t.Helper()
	c.Confirmed = true
	trial, err := d.Try(t.Context(), c, discover.Credentials{Password: password})
	if err != nil {
		t.Fatal(err)
	}
	if !trial.Works() || trial.Incoming.Security != clientconfig.TLS || trial.Outgoing.Security != clientconfig.TLS {
		t.Errorf("the right password: %+v", trial)
	}
	trial, err = d.Try(t.Context(), c, discover.Credentials{Password: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	if last := trial.Steps[len(trial.Steps)-1]; trial.Works() || last.Result != discover.WrongPassword {
		t.Errorf("a wrong password: %+v", trial)
	}
}

// TestAppleProfile fetches a profile as a device does, and logs in with what it says.
func TestAppleProfile(t *testing.T) {
	t.Parallel()
	f := newFindable(t)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.ca.Pool()}, DialContext: f.dial}
	t.Cleanup(tr.CloseIdleConnections)
	web := &http.Client{Transport: tr, Timeout: 10 * time.Second * patience}
	resp, err := web.Get("https://mx." + domain + clientconfig.PathApple + "?emailaddress=ala@" + domain)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != clientconfig.AppleType {
		t.Fatalf("%s %v %s", resp.Status, err, body)
	}
	c, err := clientconfig.ParseApple(body)
	if err != nil || c.Name != "Our post" {
		t.Fatalf("%+v %v", c, err)
	}
	ala, err := address.Parse("ala@" + domain)
	if err != nil {
		t.Fatal(err)
	}
	f.logsIn(t, f.finder(t, "^$"), discover.ByHand(ala, c))
	// What another server would be asked is not ours.
	for _, path := range []string{"/", "/mail/", "/.well-known/security.txt", clientconfig.PathApple + "?emailaddress=ala@elsewhere.example"} {
		resp, err := web.Get("https://mx." + domain + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
