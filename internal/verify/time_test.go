package verify_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/spf"
	"poczta.example/poczta/internal/verify"
)

// slow answers each question after a time, and knows how many it has open.
type slow struct {
	resolver.Resolver
	each time.Duration
	mu   sync.Mutex
	open int
	most int
	all  int
}

func (s *slow) Lookup(ctx context.Context, name string, t resolver.Type) (resolver.Answer, error) {
	s.mu.Lock()
	s.open++
	s.all++
	s.most = max(s.most, s.open)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	}()
	select {
	case <-time.After(s.each):
		return s.Resolver.Lookup(ctx, name, t)
	case <-ctx.Done():
		return resolver.Answer{}, ctx.Err()
	}
}

// counts are the questions that are open, the most that were at once, and all.
func (s *slow) counts() (open, most, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.most, s.all
}

func origin() envelope.Origin {
	return envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.1:25"), Helo: "mx.example.com"}
}

// begin starts a verification of a signed message whose body takes a minute to come.
func begin(t *testing.T, v *verify.Verifier, msg string) (*verify.Verification, []byte) {
	t.Helper()
	header, rest, _ := message.SplitHeader([]byte(msg))
	return v.Begin(t.Context(), verify.Message{Origin: origin(), ReversePath: path(t, "ala@example.com"), Header: header}), dkim.AfterEmptyLine(rest)
}

// TestBesideTheBody: what can be looked up while the body comes has been.
func TestBesideTheBody(t *testing.T) {
	t.Parallel()
	r := world(t)
	msg := sign(t, "s@soft.example", sign(t, "s@example.com", letter("ala@example.com")))
	synctest.Test(t, func(t *testing.T) {
		dns := &slow{Resolver: r, each: time.Second}
		cache, err := resolver.NewCache(resolver.CacheConfig{Resolver: dns, MinTTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		var waited time.Duration
		words := map[string]string{}
		c := config(t, cache)
		start := time.Now()
		c.Now = func() time.Time { return now.Add(time.Since(start)) }
		c.Hooks = verify.Hooks{Waited: func(d time.Duration) { waited = d }, Result: func(method, result string) { words[method] += result + " " }}
		c.MaxSignatures = 2
		v := verifier(t, c)
		ver, body := begin(t, v, msg)
		<-time.After(time.Minute) // the body comes
		open, most, asked := dns.counts()
		if open != 0 || most > 5 {
			t.Errorf("%d questions are open, %d were at once", open, most)
		}
		_, _ = ver.Write(body)
		began := time.Now()
		rep := ver.Results(t.Context())
		if _, _, all := dns.counts(); rep.DMARC.Status != dmarc.Pass || time.Since(began) != 0 || all != asked || waited != 0 {
			t.Errorf("DMARC %s, %s behind the body (hook: %s), %d more questions", rep.DMARC.Status, time.Since(began), waited, all-asked)
		}
		if d := cmp.Diff(map[string]string{"iprev": "pass ", "spf": "pass pass ", "dkim": "pass pass ", "dmarc": "pass "}, words); d != "" {
			t.Error(d)
		}
	})
}

// TestSilentDNS: what does not answer ends at the limit and is a temporary error.
func TestSilentDNS(t *testing.T) {
	t.Parallel()
	r := world(t)
	msg := sign(t, "s@example.com", letter("ala@example.com"))
	synctest.Test(t, func(t *testing.T) {
		c := config(t, &slow{Resolver: r, each: time.Hour})
		c.Timeout = 5 * time.Second
		ver, body := begin(t, verifier(t, c), msg)
		_, _ = ver.Write(body)
		began := time.Now()
		rep := ver.Results(t.Context())
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
		if !rep.TempError || rep.DMARC.Status != dmarc.TempError || rep.MailFrom.Status != spf.TempError || rep.DKIM[0].Status != dkim.TempError || rep.IPRev.Status != verify.IPRevTempError {
			t.Errorf("got %s", rep.Field().Append(nil))
		}
		if strings.Contains(names(rep.Items), "fail") || strings.Contains(names(rep.Items), "reject") {
			t.Errorf("got %s", names(rep.Items))
		}
	})
}

// TestEnds: Abort, and a context that ends, leave nothing behind (the bubble says so).
func TestEnds(t *testing.T) {
	t.Parallel()
	r := world(t)
	msg := sign(t, "s@example.com", letter("ala@example.com"))
	synctest.Test(t, func(t *testing.T) {
		dns := &slow{Resolver: r, each: time.Hour}
		v := verifier(t, config(t, dns))
		began := time.Now()
		ver, _ := begin(t, v, msg)
		synctest.Wait()
		ver.Abort()
		if open, _, _ := dns.counts(); time.Since(began) != 0 || open != 0 {
			t.Errorf("Abort took %s, %d questions are open", time.Since(began), open)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ver, body := begin(t, v, msg)
		_, _ = ver.Write(body)
		done := make(chan *verify.Report)
		go func() { done <- ver.Results(ctx) }()
		synctest.Wait()
		cancel()
		rep := <-done
		if open, _, _ := dns.counts(); !rep.TempError || time.Since(began) != 0 || open != 0 {
			t.Errorf("temporary error %v, after %s, %d questions are open", rep.TempError, time.Since(began), open)
		}
	})
}

// FuzzHeader: whatever a stranger writes, one of our domains is not taken for proven, the report can be
// written as one field, and questions stay bounded.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{"From: a@example.com", "From: =?utf-8?q?a=40ours.example?= <b@x.example>", "From: g: a@ours.example, b@x.example;\r\nFrom: c@y.example",
		"DKIM-Signature: v=1; a=rsa-sha256; d=ours.example; s=s; h=from; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AA==", "ARC-Seal: i=1; cv=none"} {
		f.Add(s, "mx.example.com")
	}
	z := world(f)
	f.Fuzz(func(t *testing.T, header, helo string) {
		dns := &slow{Resolver: z}
		v := verifier(t, config(t, dns))
		m := verify.Message{Origin: envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.8:25"), Helo: helo}, ReversePath: path(t, "x@nopolicy.example"),
			Header: []byte(header + "\r\nFrom: boss@ours.example\r\n")}
		r := v.Begin(t.Context(), m).Results(t.Context())
		seen := false
		for _, a := range r.Authors {
			seen = seen || a.Domain.String() == "ours.example"
		}
		if seen && !r.Forged {
			t.Fatalf("ours.example passes: %v", r.Items)
		}
		if !seen && len(r.Authors) < 50 && !strings.HasSuffix(header, "\r") && !strings.Contains(header, "\n\r\n") && !strings.HasPrefix(header, "\n") && len(header) < 1000 {
			t.Fatalf("ours.example is not seen among %v", r.Authors)
		}
		text := string(r.Field().Append(nil))
		if strings.Count(text, "\n") != strings.Count(text, "\r\n\t")+1 || !strings.HasSuffix(text, "\r\n") {
			t.Fatalf("%q is not one field", text)
		}
		if _, _, all := dns.counts(); all > 400 {
			t.Errorf("%d questions", all)
		}
	})
}
