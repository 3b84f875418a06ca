package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
)

// Signed mail comes from some domains, each with a host of its own in the network for
// benchmarks; they prove it by SPF, DKIM and DMARC.
const (
	signedZone    = "signed.test"
	signedDomains = 50
	signedLetters = 300
	signedOctets  = 4096
	selector      = "bench"
	balancer      = "127.0.0.2" // whom the load comes from, with a PROXY header
)

func signedDomain(i int) string { return fmt.Sprintf("d%02d.%s", i%signedDomains, signedZone) }

// signedHost is the host of a domain: no two share a network.
func signedHost(i int) string { return fmt.Sprintf("198.18.%d.25", i%signedDomains) }

// signedLetter is a message with who sends it and who gets it.
type signedLetter struct {
	host, helo, from, to string
	text                 []byte // with CRLF and dots doubled, up to the final one
}

// signedMail is a load of distinct messages, signed once.
type signedMail struct {
	letters []signedLetter
	record  string // DKIM key
	dns     string // name server
	next    atomic.Int64
}

// newSignedMail signs messages whose text is the corpus' ham, and serves what proves them.
func (b *bench) newSignedMail() (*signedMail, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	m := &signedMail{record: "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)}
	texts, err := hamTexts(signedLetters)
	if err != nil {
		return nil, err
	}
	for i, text := range texts {
		l, err := newSignedLetter(i, text, key)
		if err != nil {
			return nil, err
		}
		m.letters = append(m.letters, l)
	}
	m.dns, err = b.serveSigned(m.record)
	return m, err
}

// hamTexts are n texts in the words of the corpus' ham, each of about signedOctets.
func hamTexts(n int) ([]string, error) {
	all, err := corpus()
	if err != nil {
		return nil, err
	}
	var texts []string
	var text strings.Builder
	for _, m := range all {
		if len(texts) == n {
			break
		}
		if m.Spam {
			continue
		}
		ct, err := m.Read()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(ct.Text) {
			line = strings.Map(ascii, strings.TrimSpace(line))
			if line == "" || len(line) > 200 || strings.Contains(line, "http") {
				continue
			}
			text.WriteString(line + "\r\n")
			if text.Len() >= signedOctets-900 { // header fields and the signature come on top
				texts = append(texts, text.String())
				text.Reset()
			}
		}
	}
	if len(texts) < n {
		return nil, fmt.Errorf("the corpus has text for %d of %d messages", len(texts), n)
	}
	return texts[:n], nil
}

func ascii(r rune) rune {
	if r < ' ' || r > '~' {
		return ' '
	}
	return r
}

func newSignedLetter(i int, text string, key *rsa.PrivateKey) (signedLetter, error) {
	d, err := address.ParseDomain(signedDomain(i))
	if err != nil {
		return signedLetter{}, err
	}
	s, err := dkim.NewSigner(d, dkim.SigningKey{Selector: selector, Private: key})
	if err != nil {
		return signedLetter{}, err
	}
	l := signedLetter{host: signedHost(i), helo: "mx." + d.String(), from: fmt.Sprintf("p%03d@%s", i, d), to: user(i%peerUsers) + "@" + domain}
	now := time.Now()
	header := fmt.Sprintf("From: Jan Kowalski <%s>\r\nTo: <%s>\r\nSubject: Minutes of meeting %d\r\nDate: %s\r\nMessage-ID: <%d.%d@%s>\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n", l.from, l.to, i, now.Format(time.RFC1123Z), now.Unix(), i, d)
	g := s.Begin([]byte(header), dkim.Options{})
	_, _ = g.Write([]byte(text)) // hashes take everything
	fields, err := g.Fields(now)
	if err != nil {
		return signedLetter{}, err
	}
	body := strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")
	l.text = fmt.Appendf(nil, "%s%s%s.\r\n", fields, header, body)
	return l, nil
}

// serveSigned answers for the domains of signed mail; no other name exists.
func (b *bench) serveSigned(record string) (addr string, err error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	zone := map[string][]string{} // texts of resource records by name
	add := func(name, rest string) { zone[name+"."] = append(zone[name+"."], name+". 3600 IN "+rest) }
	for i := range signedDomains {
		d, host := signedDomain(i), signedHost(i)
		add(d, `TXT "v=spf1 mx -all"`)
		add(d, "MX 10 mx."+d+".")
		add(d, "A "+host)
		add("mx."+d, "A "+host)
		add("mx."+d, `TXT "v=spf1 a -all"`)
		add("_dmarc."+d, `TXT "v=DMARC1; p=reject"`)
		add(selector+"._domainkey."+d, fmt.Sprintf("TXT %q %q", record[:200], record[200:]))
		reverse, err := dns.ReverseAddr(host)
		if err != nil {
			return "", err
		}
		add(strings.TrimSuffix(reverse, "."), "PTR mx."+d+".")
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { answerSigned(w, q, zone) })}
	b.onStop(func() { _ = server.Shutdown() })
	go func() { _ = server.ActivateAndServe() }()
	return conn.LocalAddr().String(), nil
}

func answerSigned(w dns.ResponseWriter, q *dns.Msg, zone map[string][]string) {
	r := new(dns.Msg).SetReply(q)
	r.RecursionAvailable = true
	if len(q.Question) == 1 {
		name := strings.ToLower(q.Question[0].Name)
		records, there := zone[name]
		if !there {
			r.Rcode = dns.RcodeNameError
		}
		for _, text := range records {
			if rr, err := dns.NewRR(text); err == nil && rr.Header().Rrtype == q.Question[0].Qtype {
				r.Answer = append(r.Answer, rr)
			}
		}
	}
	if len(r.Answer) == 0 { // kept for an hour too (RFC 2308 §5)
		if soa, err := dns.NewRR(". 3600 IN SOA ns. hostmaster. 1 3600 3600 3600 3600"); err == nil {
			r.Ns = append(r.Ns, soa)
		}
	}
	_ = w.WriteMsg(r)
}

// send delivers count messages over so many sessions, one message a connection, and no
// command before the reply to the one before it.
func (m *signedMail) send(ctx context.Context, addr string, sessions, count int) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, fmt.Errorf("%d messages take more than two minutes", count))
	defer cancel()
	begin := time.Now()
	var left atomic.Int64
	left.Store(int64(count))
	var once sync.Once
	var failed error
	var wg sync.WaitGroup
	for range sessions {
		wg.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil {
				if err := m.letters[int(m.next.Add(1))%len(m.letters)].send(ctx, addr); err != nil {
					once.Do(func() { failed = err })
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if failed == nil && ctx.Err() != nil {
		failed = context.Cause(ctx)
	}
	return time.Since(begin), failed
}

// send delivers the message over a connection of its own.
func (l *signedLetter) send(ctx context.Context, addr string) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(balancer)}, Timeout: 10 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	c := &smtpClient{conn, bufio.NewReader(conn), bufio.NewWriterSize(conn, 8<<10)}
	fmt.Fprintf(c.w, "PROXY TCP4 %s %s 40000 25\r\n", l.host, balancer)
	if err := c.w.Flush(); err != nil {
		return err
	}
	if err := c.reply("220"); err != nil {
		return err
	}
	for _, step := range []struct{ class, command string }{
		{"250", "EHLO " + l.helo}, {"250", "MAIL FROM:<" + l.from + ">"}, {"250", "RCPT TO:<" + l.to + ">"}, {"354", "DATA"},
	} {
		if err := c.command(step.class, step.command); err != nil {
			return fmt.Errorf("%s: %w", step.command, err)
		}
	}
	if _, err := c.w.Write(l.text); err != nil {
		return err
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	if err := c.reply("250"); err != nil {
		return fmt.Errorf("the message of %s: %w", l.from, err)
	}
	return c.command("221", "QUIT")
}

// rate measures messages a second into addr as bench.rate does, after warm messages that don't count.
func (m *signedMail) rate(ctx context.Context, b *bench, addr string, sessions, warm int, done func(count int) error) (float64, error) {
	took, err := m.send(ctx, addr, sessions, warm)
	if err != nil {
		return 0, err
	}
	if err := done(warm); err != nil {
		return 0, err
	}
	count := max(int(float64(warm)/took.Seconds()*b.seconds.Seconds()), min(5*sessions, warm))
	begin := time.Now()
	if _, err := m.send(ctx, addr, sessions, count); err != nil {
		return 0, err
	}
	if err := done(warm + count); err != nil {
		return 0, err
	}
	return float64(count) / time.Since(begin).Seconds(), nil
}
