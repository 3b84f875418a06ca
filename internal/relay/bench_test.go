package relay_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/report"
)

// BenchmarkDrain empties a queue of 4 KiB messages, one recipient each, over loopback TCP
// to a host that keeps nothing. The queue is SQLite with the full durability of the house.
func BenchmarkDrain(b *testing.B) {
	d := sqlite(b)
	h := posttest.Open(b, d, posttest.Options{})
	p := peer.Start(b, peer.Config{Discard: true})
	at := p.Listen(b)
	n := &names{hosts: map[string][]string{"them.example": {"mx.them.example=127.0.0.1"}}, errs: map[string]*mx.Error{}}
	reports, err := report.New(report.Config{Hostname: domainOf("here.example"), Accepter: h.Post, Router: &intaketest.Router{Routes: map[string]account.Route{}}})
	if err != nil {
		b.Fatal(err)
	}
	text := posttest.Long(4 << 10)
	for left := b.N; left > 0; left -= 1000 {
		var all *post.Delivery
		for range min(left, 1000) {
			m := h.Delivery(b, text, nil, "a@them.example")
			if all == nil {
				all = m
			} else {
				all.Also = append(all.Also, *m)
			}
		}
		if err := h.Post.Accept(b.Context(), all); err != nil {
			b.Fatal(err)
		}
	}
	r, err := relay.New(relay.Config{Queue: relay.FromQueue(h.Queue), Bodies: h.Body, MX: n, Reports: reports, Accepter: h.Post, Hello: "here.example", Now: h.Clock.Now,
		Port: at.Port(), Dial: func(ctx context.Context, network, addr string, _ netip.Addr) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { done <- r.Run(ctx) }()
	for left := int64(b.N); left > 0; {
		<-time.After(50 * time.Millisecond)
		if left, _, err = h.Queue.Count(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64(p.Connections()), "connections")
}
