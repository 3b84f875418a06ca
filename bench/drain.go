package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// most is what a row queues at most, as the design asks.
const most = 100_000

// relaying is how a server of ours is set up that relays.
type relaying struct {
	signed bool
	routes string // [[relay.route]] sections; empty relays by MX
	dns    string
	port   string // of MX hosts
}

// smartHost is a route of all mail, or of a domain's.
func smartHost(name, addr, of string) string {
	list := ""
	if of != "" {
		list = fmt.Sprintf("domains = [%q]\n", of)
	}
	return fmt.Sprintf("\n[[relay.route]]\nname = %q\nhost = %q\ntls = \"opportunistic\"\n%s", name, addr, list)
}

// setUpRelay sets a server up that takes mail from loopback for everywhere.
func (b *bench) setUpRelay(ctx context.Context, r relaying) (*ours, error) {
	o, err := b.setUp(ctx)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(o.conf)
	if err != nil {
		return nil, err
	}
	s := string(text) + "\n[[submission.host]]\nfrom = [\"127.0.0.0/8\"]\naddresses = [\"@" + domain + "\"]\nhourly_limit = 1000000000\n"
	s += fmt.Sprintf("\n[dkim]\nsign = %v\n", r.signed)
	if r.dns != "" {
		s += fmt.Sprintf("\n[dns]\nservers = [%q]\n", r.dns)
	}
	s += "\n[relay]\nenabled = true\nallow_loopback = true\n"
	if r.port != "" {
		s += "port = " + r.port + "\n"
	}
	return o, os.WriteFile(o.conf, []byte(s+r.routes), 0o644)
}

// setRelay turns the relay on or off, for the next start.
func (o *ours) setRelay(on bool) error {
	text, err := os.ReadFile(o.conf)
	if err != nil {
		return err
	}
	s := strings.Replace(string(text), fmt.Sprintf("\nenabled = %v\n", !on), fmt.Sprintf("\nenabled = %v\n", on), 1)
	return os.WriteFile(o.conf, []byte(s), 0o644)
}

// queue fills the queue while the relay is off, and leaves the server stopped.
func (o *ours) queue(ctx context.Context, g outgoing) error {
	if err := o.setRelay(false); err != nil {
		return err
	}
	if err := o.start(ctx); err != nil {
		return err
	}
	if err := g.send(ctx, o.submission); err != nil {
		return fmt.Errorf("fill the queue: %w", err)
	}
	o.proc.stop()
	return o.setRelay(true)
}

// drain queues messages, starts the relay, and measures how they pass the sink. kib is
// what was written to files for each.
func (o *ours) drain(ctx context.Context, s *sink, g outgoing) (p passage, kib float64, err error) {
	if err := o.queue(ctx, g); err != nil {
		return p, 0, err
	}
	before := s.messages()
	if err := o.start(ctx); err != nil {
		return p, 0, err
	}
	if p, err = s.passing(ctx, before, g.messages, o.pid()); err != nil {
		return p, 0, fmt.Errorf("poczta: %w", err)
	}
	if err := o.waitRelayed(ctx); err != nil {
		return p, 0, err
	}
	octets, err := written(o.pid())
	o.proc.stop()
	return p, octets / 1024 / float64(g.messages), err
}

// waitRelayed waits until nothing is queued: what was sent is settled, too.
func (o *ours) waitRelayed(ctx context.Context) error {
	var err error
	empty := func() int {
		out, e := o.command(ctx, nil, "queue", "destinations", "--json")
		if err = e; e == nil && string(bytes.TrimSpace(out)) == "[]" {
			return 1
		}
		return 0
	}
	return errors.Join(waitCount(ctx, empty, 1), err)
}

// written is how many octets a process had written to files.
func written(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, errors.New("no write_bytes in the process's io")
}

func millis(d time.Duration) string { return fmt.Sprintf("%.3f ms", float64(d.Microseconds())/1000) }

// queued is how much a row queues for a rate that is expected.
func (b *bench) queued(perSecond int) outgoing {
	n := min(most, int(b.seconds.Seconds()*float64(perSecond)))
	return outgoing{messages: n, sessions: 20, octets: 4096, to: one("sink.test")}
}

// drainAgainstPostfix empties our queue into smtp-sink and Postfix's into the same, in turn.
func drainAgainstPostfix(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "messages/s", peerOf: "Postfix"}
	s, err := b.startCounting(ctx)
	if err != nil {
		return res, err
	}
	p, err := b.newSender(ctx, s)
	if err != nil {
		return res, err
	}
	var cpu, peerCPU []float64
	for range b.runs {
		o, err := b.setUpRelay(ctx, relaying{routes: smartHost("sink", s.addr, "")})
		if err != nil {
			return res, err
		}
		ours, _, err := o.drain(ctx, s, b.queued(8000))
		if err != nil {
			return res, err
		}
		peer, err := p.drain(ctx, s, b.queued(500))
		if err != nil {
			return res, err
		}
		res.ours, res.peer = append(res.ours, ours.perSecond), append(res.peer, peer.perSecond)
		cpu, peerCPU = append(cpu, float64(ours.cpu)), append(peerCPU, float64(peer.cpu))
	}
	res.note = fmt.Sprintf("CPU a message %s, Postfix %s", millis(time.Duration(median(cpu))), millis(time.Duration(median(peerCPU))))
	return res, nil
}

// drain queues messages and measures how they pass the sink.
func (p *sender) drain(ctx context.Context, s *sink, g outgoing) (passage, error) {
	if err := p.start(ctx, true); err != nil {
		return passage{}, err
	}
	if err := g.send(ctx, p.smtp); err != nil {
		return passage{}, fmt.Errorf("fill postfix's queue: %w", err)
	}
	p.stop(ctx)
	before := s.messages()
	if err := p.start(ctx, false); err != nil {
		return passage{}, err
	}
	defer p.stop(ctx)
	out, err := s.passing(ctx, before, g.messages, p.pid)
	if err != nil {
		err = fmt.Errorf("postfix: %w", err)
	}
	return out, err
}

// drainAgainstSource empties our queue into smtp-sink, and lets smtp-source send to the
// same sink, in turn.
func drainAgainstSource(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "messages/s", peerOf: "smtp-source"}
	s, err := b.startCounting(ctx)
	if err != nil {
		return res, err
	}
	return b.drainBesideSource(ctx, res, s, relaying{routes: smartHost("sink", s.addr, "")}, func(g *outgoing) {})
}

// drainByMX is the same for many domains with hosts of their own.
func drainByMX(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "messages/s", peerOf: "smtp-source"}
	s, err := b.startCounting(ctx)
	if err != nil {
		return res, err
	}
	dns, err := b.startDNS()
	if err != nil {
		return res, err
	}
	_, port, _ := strings.Cut(s.addr, ":")
	return b.drainBesideSource(ctx, res, s, relaying{dns: dns, port: port}, func(g *outgoing) {
		g.to = func(i int) []string { return []string{fmt.Sprintf("u%06d@d%04d.%s", i, i%1000, mailDomains)} }
	})
}

// drainBesideSource measures what we drain and what smtp-source sends, in turn.
func (b *bench) drainBesideSource(ctx context.Context, res result, s *sink, r relaying, change func(*outgoing)) (result, error) {
	var cpu, kib []float64
	for range b.runs {
		o, err := b.setUpRelay(ctx, r)
		if err != nil {
			return res, err
		}
		g := b.queued(8000)
		change(&g)
		ours, w, err := o.drain(ctx, s, g)
		if err != nil {
			return res, err
		}
		before, n := s.messages(), b.queued(10000).messages
		failed := make(chan error, 1)
		go func() {
			_, err := generate(ctx, s.addr, load{sessions: 20, octets: 4096, reuse: true}, n)
			failed <- err
		}()
		peer, err := s.passing(ctx, before, n)
		if err := errors.Join(err, <-failed); err != nil {
			return res, err
		}
		res.ours, res.peer = append(res.ours, ours.perSecond), append(res.peer, peer.perSecond)
		cpu, kib = append(cpu, float64(ours.cpu)), append(kib, w)
	}
	res.note = fmt.Sprintf("CPU a message %s, %.1f KiB written to disk", millis(time.Duration(median(cpu))), median(kib))
	return res, nil
}
