package filter_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/greeting"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/verdict"
	"poczta.example/poczta/internal/verify"
)

// dead is DNS that answers nothing before the caller gives up.
type dead struct{}

func (dead) Lookup(ctx context.Context, _ string, _ resolver.Type) (resolver.Answer, error) {
	<-ctx.Done()
	return resolver.Answer{}, ctx.Err()
}

// hostile answers whatever is asked with as much as it can, which always leads on.
type hostile struct{}

func (hostile) Lookup(_ context.Context, name string, t resolver.Type) (resolver.Answer, error) {
	text := "v=spf1 " + strings.Repeat("include:%{i}.x."+strings.TrimPrefix(name, "x.")+" exists:%{l}."+name+" mx ptr ", 2000) + "-all"
	if strings.HasPrefix(name, "_dmarc.") {
		text = "v=DMARC1; p=none; rua=" + strings.Repeat("mailto:a@b.test,", 4000) + "mailto:a@b.test"
	}
	if strings.Contains(name, "._domainkey.") {
		text = "v=DKIM1; p=" + strings.Repeat("A", 60000)
	}
	var a resolver.Answer
	for k := range 200 {
		a.Records = append(a.Records, resolver.Record{Text: text, Host: fmt.Sprintf("h%d.%s", k, name), Addr: netip.AddrFrom4([4]byte{203, 0, 113, byte(k)})})
		if t == resolver.TXT {
			break
		}
	}
	return a, nil
}

// withDNS waits for the answers of r, unless there are none.
func withDNS(t *testing.T, r resolver.Resolver, then verdict.Action) func(*filter.Config) {
	wait := time.Minute
	if _, ok := r.(dead); ok {
		wait = 300 * time.Millisecond
	}
	return func(c *filter.Config) {
		own := func(ctx context.Context, d address.Domain) (bool, error) { return d.String() == "example.org", nil }
		c.Verifier = must[*verify.Verifier](t)(verify.New(verify.Config{Resolver: r, Hostname: c.Hostname, Now: c.Now, Own: own, Timeout: wait}))
		c.Greeting = must[*greeting.Checker](t)(greeting.New(greeting.Config{Resolver: r, Timeout: wait}))
		c.Greylist, c.Unavailable = nil, then
	}
}

// TestHostileDNS: DNS that is dead, or answers without end, costs bounded time; what is done about
// mail that can't be verified is configured.
func TestHostileDNS(t *testing.T) {
	t.Parallel()
	signed := "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=good.test; s=x; h=from; bh=AAAA; b=AAAA\r\n"
	msg := strings.Repeat(signed, 20) + chains(5) + letter("jan@good.test", "Dear Ala")
	for _, tt := range []struct {
		name string
		dns  resolver.Resolver
		then verdict.Action
		code int
	}{{"dead, deliver", dead{}, verdict.Deliver, 0}, {"dead, defer", dead{}, verdict.Defer, 451}, {"hostile", hostile{}, verdict.Defer, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			once(t, func(d db.Database) {
				h := newHouse(t, d, withDNS(t, tt.dns, tt.then))
				began := time.Now()
				got, err := h.receive("192.0.2.1", "jan@good.test", msg, ala)
				if took := time.Since(began); took > patience/2 {
					t.Errorf("it took %s", took)
				}
				if code(err) != tt.code || err == nil && len(got.Locals) != 1 {
					t.Errorf("got %v %+v, want %d", err, got, tt.code)
				}
			})
		})
	}
}

// TestDetails: what a sender has a hand in does not reach the trace, the log or the header
// section as more than a part of a line.
func TestDetails(t *testing.T) {
	t.Parallel()
	once(t, func(d db.Database) {
		h := newHouse(t, d, withDNS(t, hostile{}, verdict.Deliver))
		nasty := "a\x1b[2Jb\u009b31mc\u202ed\x7f\x00e"
		msg := "From: \"" + nasty + "@example.org\" <jan@good.test>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; filename=\"" + nasty + ".pdf.exe\"\r\n\r\nMZ\r\n--b--\r\n"
		env := envelope.Envelope{ReversePath: intaketest.From(t, "jan@good.test"), Origin: envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.1:9"), Helo: "x" + nasty, Protocol: "ESMTP"}}
		in := must[intake.Inspection](t)(h.filter.Inspect(t.Context(), intake.Incoming{ID: someID(t), Envelope: &env, Header: []byte(msg[:strings.Index(msg, "\r\n\r\n")+2])}))
		env.Recipients = []envelope.Recipient{{ForwardPath: intaketest.To(t, ala)}}
		j, err := in.Judge(t.Context(), whole(msg))
		text := ""
		if err != nil {
			text = err.Error()
		} else {
			text = string(j.Fields) + j.Locals[0].Why + string(j.Locals[0].Prefix)
		}
		told := filter.Tell(verdict.Verdict{Items: []verdict.Weighed{{Item: verdict.Item{Name: verdict.HeloBad, Detail: nasty + "\r\nX: y\xff"}}}})
		text += told.Evidence[0].Detail
		if strings.Contains(told.Evidence[0].Detail, "\n") || strings.ContainsAny(text, "\x1b\u009b\u202e\x7f\x00") {
			t.Errorf("got %q", text)
		}
		t.Log(text)
	})
}

func someID(t *testing.T) message.ID {
	t.Helper()
	return must[message.ID](t)(message.NewID(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), bytes.NewReader(make([]byte, 64))))
}

func whole(msg string) *intake.Whole {
	head := strings.Index(msg, "\r\n\r\n") + 2
	return &intake.Whole{Message: strings.NewReader(msg), Size: int64(len(msg)), Header: []byte(msg[:head]), Body: strings.NewReader(msg[head+2:]), BodySize: int64(len(msg) - head - 2),
		Locals: []post.Local{{Recipients: []int{0}, Account: 1}}}
}

// TestMemory: a message of 50 MiB takes little memory, whatever it is made of, and no goroutine
// is left of it. It runs alone, since it measures the process.
func TestMemory(t *testing.T) {
	const size, most = 50 << 20, 40 << 20
	fill := func(line string) string { return strings.Repeat(line, size/len(line)) }
	bodies := map[string]string{
		"text":             typed("text/plain", fill("Dear Ala, a long letter\r\n")),
		"one line":         typed("text/plain", fill("x")),
		"HTML":             typed("text/html", fill("<p><a href='http://a.test/x'>b.test</a>\r\n")),
		"parts":            typed("multipart/mixed; boundary=b", fill("--b\r\n\r\nx\r\n")),
		"a line of base64": typed("application/zip\r\nContent-Transfer-Encoding: base64", fill("UEsDBAAA")),
		"lines of base64":  typed("application/zip\r\nContent-Transfer-Encoding: base64", fill("UEsDBAAAUEsDBAAAUEsDBAAAUEsDBAAA\r\n")),
	}
	once(t, func(d db.Database) {
		h := newHouse(t, d, nil)
		for name, msg := range bodies {
			t.Run(name, func(t *testing.T) {
				w := whole(msg)
				body := []byte(msg[len(msg)-int(w.BodySize):])
				runtime.GC()
				before, routines := heap(), runtime.NumGoroutine()
				stop, peak := make(chan struct{}), make(chan uint64)
				go func() { peak <- watch(stop) }()
				env := envelope.Envelope{ReversePath: intaketest.From(t, "jan@good.test"), Recipients: []envelope.Recipient{{ForwardPath: intaketest.To(t, ala)}},
					Origin: envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.1:9"), Helo: "mx.good.test", Protocol: "ESMTP"}}
				began := time.Now()
				in := must[intake.Inspection](t)(h.filter.Inspect(t.Context(), intake.Incoming{ID: someID(t), Envelope: &env, Header: w.Header}))
				_, _ = in.Write(body)
				if _, err := in.Judge(t.Context(), w); err != nil && code(err) == 0 {
					t.Error(err)
				}
				in.Abort()
				took := time.Since(began)
				close(stop)
				runtime.KeepAlive(body)
				if grown := int64(<-peak) - int64(before); grown > most || took > patience {
					t.Errorf("it took %d MiB and %s", grown>>20, took)
				} else {
					t.Logf("%d MiB, %s", grown>>20, took)
				}
				deadline := time.After(patience)
				for tick := time.Tick(time.Millisecond); runtime.NumGoroutine() > routines; {
					select {
					case <-tick:
					case <-deadline:
						t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), routines)
					}
				}
			})
		}
	})
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// watch is the most heap that was in use until stop is closed.
func watch(stop chan struct{}) (peak uint64) {
	for tick := time.Tick(5 * time.Millisecond); ; {
		peak = max(peak, heap())
		select {
		case <-stop:
			return peak
		case <-tick:
		}
	}
}
