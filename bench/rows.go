package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"time"
)

// allRows is the table of the design: every figure it sets a target for on the
// receiving and the reading side.
func allRows() []row {
	once, reused := load{sessions: 20, octets: 4096}, load{sessions: 20, octets: 4096, reuse: true}
	return slices.Concat([]row{
		{"inbound 4 KiB, 20 sessions, one message a connection, delivered", "≥ 15 ×", inboundAgainstPair(once)},
		{"inbound 4 KiB, 20 sessions, connections reused, delivered", "", inboundAgainstPair(reused)},
		{"inbound, against a server that discards, one message a connection", "≥ 60 %", inboundAgainstSink(once)},
		{"inbound, against a server that discards, connections reused", "≥ 40 %", inboundAgainstSink(reused)},
		{"CPU of the server per delivered message, one message a connection", "≤ 1/20", cpuPerMessage(once)},
		{"p99 of the reply to DATA while 100,000 messages are imported", "≤ 3 ×", latencyWhileImporting},
		{"drain of queued messages to smtp-sink, one smart host", "≥ 5 ×", drainAgainstPostfix},
		{"drain of queued messages to smtp-sink, against a generator", "≥ 40 %", drainAgainstSource},
		{"drain of queued messages to smtp-sink, by MX, 1,000 domains with hosts of their own", "", drainByMX},
		{"submission to smtp-sink, signed with RSA-2048 and Ed25519", "≥ 80 %", signedThrough},
		{"memory with 1,000,000 recipients queued for a slow host", "≤ 150 MiB", hugeQueue},
		{"POP3 login, STAT, QUIT, 20 sessions", "≥ 4 ×", popRow(popLoad{sessions: 20, user: "u%03d", users: 20, messages: 0}, true)},
		{"POP3 the same, default settings of the peer", "", popRow(popLoad{sessions: 20, user: "u%03d", users: 20, messages: 0}, false)},
		{"POP3S login, STAT, QUIT, 20 sessions, full handshake", "", popTLS(false)},
		{"POP3S login, STAT, QUIT, 20 sessions, resumed handshake", "", popTLS(true)},
		{"POP3 UIDL and LIST of 10,000 messages, 4 sessions", "≥ 10 ×", popRow(popLoad{sessions: 4, user: "big%03d", users: 4, messages: 10000, listing: true}, true)},
		{"POP3 RETR of 100 × 4 KiB, 20 sessions, one by one", "≥ 7 ×", popRow(popLoad{sessions: 20, user: "r%03d", users: 20, messages: 100, retrieve: true}, false)},
		{"POP3 RETR of 100 × 4 KiB, 20 sessions, pipelined", "≥ 10 ×", popRow(popLoad{sessions: 20, user: "r%03d", users: 20, messages: 100, retrieve: true, pipeline: true}, false)},
		{"POP3 RETR of 20 × 1 MiB, 4 sessions", "≥ 3 ×", popRow(popLoad{sessions: 4, user: "m%03d", users: 4, messages: 20, retrieve: true}, false)},
		{"POP3 RETR of 100 × 4 KiB, one by one, fast settings of the peer", "", popRow(popLoad{sessions: 20, user: "r%03d", users: 20, messages: 100, retrieve: true}, true)},
		{"POP3 RETR of 100 × 4 KiB, pipelined, fast settings of the peer", "", popRow(popLoad{sessions: 20, user: "r%03d", users: 20, messages: 100, retrieve: true, pipeline: true}, true)},
		{"POP3 client: 10,000 × 4 KiB from Dovecot, one session, against a load generator", "≥ 80 %", popClientRow("big%03d", 10000, false)},
		{"memory with 10,000 idle strangers, SMTP", "≤ 100 MiB", idleStrangers("smtp")},
		{"memory with 10,000 idle strangers, POP3", "≤ 100 MiB", idleStrangers("pop3")},
		{"memory with 10,000 logged-in POP3S sessions", "≤ 400 MiB", idleSessions},
		{"memory that LIST and UIDL of 1,000,000 messages add, 4 sessions", "≤ 64 MiB", hugeListing},
		{"start with 1,000,000 stored messages, to ready", "≤ 0.5 s", startHuge},
		{"memory that one message of 100 MiB adds, in and out", "≤ 8 MiB", hugeMessage},
		{"p99 of the reply to DATA while 1,000,000 rows are purged", "≤ 3 ×", latencyWhilePurging},
	}, classifierRows(), filterRows(), mailClientRows())
}

// inboundAgainstPair delivers the load to us and to Postfix with Dovecot, in turn.
func inboundAgainstPair(l load) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		res := result{unit: "messages/s", peerOf: "Postfix+Dovecot"}
		o, err := b.startOurs(ctx, "")
		if err != nil {
			return res, err
		}
		p, err := b.startPair(ctx, false, false)
		if err != nil {
			return res, err
		}
		for range b.runs {
			before, err := o.stored(ctx)
			if err != nil {
				return res, err
			}
			ours, _, err := b.rate(ctx, o.smtp, l, func(n int) error { return o.waitStored(ctx, before+n) })
			if err != nil {
				return res, err
			}
			if err := p.clean(); err != nil {
				return res, err
			}
			peer, _, err := b.rate(ctx, p.smtp, l, func(n int) error { return waitCount(ctx, p.delivered, n) })
			if err != nil {
				return res, err
			}
			res.ours, res.peer = append(res.ours, ours), append(res.peer, peer)
		}
		return res, nil
	}
}

// inboundAgainstSink delivers to us and throws the same at smtp-sink, in turn.
func inboundAgainstSink(l load) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		res := result{unit: "messages/s", peerOf: "smtp-sink"}
		o, err := b.startOurs(ctx, "")
		if err != nil {
			return res, err
		}
		sink, _, err := b.startSink(ctx)
		if err != nil {
			return res, err
		}
		for range b.runs {
			before, err := o.stored(ctx)
			if err != nil {
				return res, err
			}
			ours, _, err := b.rate(ctx, o.smtp, l, func(n int) error { return o.waitStored(ctx, before+n) })
			if err != nil {
				return res, err
			}
			peer, _, err := b.rate(ctx, sink, l, func(int) error { return nil })
			if err != nil {
				return res, err
			}
			res.ours, res.peer = append(res.ours, ours), append(res.peer, peer)
		}
		return res, nil
	}
}

// cpuPerMessage compares the CPU time of the servers' process trees.
func cpuPerMessage(l load) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		res := result{unit: "ms", peerOf: "Postfix+Dovecot", less: true}
		o, err := b.startOurs(ctx, "")
		if err != nil {
			return res, err
		}
		p, err := b.startPair(ctx, false, false)
		if err != nil {
			return res, err
		}
		measure := func(addr string, done func(int) error, roots ...int) (float64, error) {
			before := cpuOf(roots...)
			_, count, err := b.rate(ctx, addr, l, done)
			return float64((cpuOf(roots...) - before).Microseconds()) / 1000 / float64(count+10*l.sessions), err
		}
		for range b.runs {
			before, err := o.stored(ctx)
			if err != nil {
				return res, err
			}
			ours, err := measure(o.smtp, func(n int) error { return o.waitStored(ctx, before+n) }, o.pid())
			if err != nil {
				return res, err
			}
			if err := p.clean(); err != nil {
				return res, err
			}
			peer, err := measure(p.smtp, func(n int) error { return waitCount(ctx, p.delivered, n) }, p.roots...)
			if err != nil {
				return res, err
			}
			res.ours, res.peer = append(res.ours, ours), append(res.peer, peer)
		}
		return res, nil
	}
}

// popRow runs a POP3 load against us and against Dovecot, in turn.
func popRow(l popLoad, fast bool) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		res := result{unit: "sessions/s", peerOf: "Dovecot"}
		if l.retrieve {
			res.unit = "messages/s"
		}
		o, err := b.startOurs(ctx, l.user)
		if err != nil {
			return res, err
		}
		p, err := b.startPair(ctx, fast, true)
		if err != nil {
			return res, err
		}
		if err := p.fill(ctx, l.user); err != nil {
			return res, err
		}
		figure := func(addr string) (float64, error) {
			one := l
			one.addr = addr
			one.user += "@" + domain
			if _, err := one.run(ctx, time.Millisecond); err != nil { // indexes and caches made
				return 0, err
			}
			t, err := one.run(ctx, b.seconds)
			if l.retrieve {
				return t.messages, err
			}
			return t.logins, err
		}
		for range b.runs {
			ours, err := figure(o.pop3)
			if err != nil {
				return res, fmt.Errorf("poczta: %w", err)
			}
			peer, err := figure(p.pop3)
			if err != nil {
				return res, fmt.Errorf("dovecot: %w", err)
			}
			res.ours, res.peer = append(res.ours, ours), append(res.peer, peer)
		}
		return res, nil
	}
}

// popTLS measures logins over implicit TLS.
func popTLS(resume bool) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		res := result{unit: "sessions/s"}
		o, err := b.startOurs(ctx, "")
		if err != nil {
			return res, err
		}
		conf := insecure.Clone()
		if resume {
			conf.ClientSessionCache = tls.NewLRUClientSessionCache(64)
		}
		l := popLoad{sessions: 20, user: "u%03d@" + domain, users: 20, messages: 0, tls: conf, addr: o.pop3s}
		for range b.runs {
			t, err := l.run(ctx, b.seconds)
			if err != nil {
				return res, err
			}
			res.ours = append(res.ours, t.logins)
		}
		return res, nil
	}
}
