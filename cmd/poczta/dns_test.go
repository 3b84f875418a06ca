package main

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"poczta.example/poczta/internal/resolver"
)

// cmdDNS is the script's command "dns FILE": a name server on loopback that
// answers from the zone lines of a file, read again for each question, so that a
// script edits DNS by editing the file. $DNS becomes its address.
func cmdDNS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dns FILE")
	}
	file := ts.MkAbs(args[0])
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	ts.Check(err)
	ready := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(ready) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(answer(file, q))
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-ready
	ts.Defer(func() { _ = server.Shutdown(); <-ended })
	ts.Setenv("DNS", conn.LocalAddr().String())
}

// answer answers a question for TXT; other types have no records.
func answer(file string, q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	text, err := os.ReadFile(file)
	if err != nil {
		return m.SetRcode(q, dns.RcodeServerFailure)
	}
	zone, err := resolver.NewZone(string(text))
	if err != nil {
		return m.SetRcode(q, dns.RcodeServerFailure)
	}
	name := q.Question[0].Name
	found, err := zone.Lookup(context.Background(), name, resolver.Type(q.Question[0].Qtype))
	if errors.Is(err, resolver.ErrNotFound) || q.Question[0].Qtype != dns.TypeTXT {
		return m.SetRcode(q, dns.RcodeNameError)
	}
	for _, r := range found.Records {
		rr := &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}}
		for rest := r.Text; rest != ""; rest = rest[min(255, len(rest)):] {
			rr.Txt = append(rr.Txt, rest[:min(255, len(rest))])
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}
