package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// signatures is how many messages a second all cores can sign with RSA of 2048 bits and
// Ed25519, doing nothing else, and what CPU time one message takes.
func signatures(lasting time.Duration) (perSecond float64, each time.Duration, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return 0, 0, err
	}
	_, short, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return 0, 0, err
	}
	hash := sha256.Sum256([]byte("what is signed"))
	var count atomic.Int64
	errs := make([]error, runtime.NumCPU())
	begin, before := time.Now(), ownCPU()
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil && time.Since(begin) < lasting {
				_, errs[i] = rsa.SignPKCS1v15(nil, private, crypto.SHA256, hash[:])
				ed25519.Sign(short, hash[:])
				count.Add(1)
			}
		})
	}
	wg.Wait()
	n := float64(count.Load())
	return n / time.Since(begin).Seconds(), time.Duration(float64(ownCPU()-before) / n), errors.Join(errs...)
}

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it can't fail for the process itself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// signedThrough measures messages from submission through the queue into smtp-sink. They are
// signed once, on submission, with two keys; the bound is what the cores can sign.
func signedThrough(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "messages/s", peerOf: "the signatures alone"}
	s, err := b.startCounting(ctx)
	if err != nil {
		return res, err
	}
	var cpu, bare, plainCPU, plainRate []float64
	through := func(signed bool) (passage, error) {
		o, err := b.setUpRelay(ctx, relaying{signed: signed, routes: smartHost("sink", s.addr, "")})
		if err != nil {
			return passage{}, err
		}
		if err := o.start(ctx); err != nil {
			return passage{}, err
		}
		defer o.proc.stop()
		before, g := s.messages(), b.queued(1000)
		failed := make(chan error, 1)
		go func() { failed <- g.send(ctx, o.submission) }()
		p, err := s.passing(ctx, before, g.messages, o.pid())
		return p, errors.Join(err, <-failed)
	}
	for range b.runs {
		bound, each, err := signatures(time.Second)
		if err != nil {
			return res, err
		}
		ours, err := through(true)
		if err != nil {
			return res, err
		}
		plain, err := through(false)
		if err != nil {
			return res, err
		}
		res.ours, res.peer = append(res.ours, ours.perSecond), append(res.peer, bound)
		cpu, bare, plainCPU, plainRate = append(cpu, float64(ours.cpu)), append(bare, float64(each)), append(plainCPU, float64(plain.cpu)), append(plainRate, plain.perSecond)
	}
	res.note = fmt.Sprintf("submitted, signed and relayed; CPU a message %s, of it two signatures %s; unsigned %s and %s", millis(time.Duration(median(cpu))),
		millis(time.Duration(median(bare))), figure(median(plainRate), "messages/s"), millis(time.Duration(median(plainCPU))))
	return res, nil
}

// hugeQueue queues 1,000,000 recipients at a domain whose host takes ten seconds for a
// message, and sends letters to another meanwhile.
func hugeQueue(ctx context.Context, b *bench) (result, error) {
	const recipients, each, letters = 1_000_000, 1000, 50
	res := result{unit: "MiB", less: true}
	slow, err := b.startCounting(ctx, "-w", "10")
	if err != nil {
		return res, err
	}
	s, err := b.startCounting(ctx)
	if err != nil {
		return res, err
	}
	o, err := b.setUpRelay(ctx, relaying{routes: smartHost("slow", slow.addr, "slow.test") + smartHost("rest", s.addr, "")})
	if err != nil {
		return res, err
	}
	if err := o.start(ctx); err != nil {
		return res, err
	}
	begin := time.Now()
	g := outgoing{messages: recipients / each, sessions: 10, octets: 4096, to: func(i int) []string {
		to := make([]string, each)
		for k := range to {
			to[k] = fmt.Sprintf("u%07d@slow.test", i*each+k)
		}
		return to
	}}
	if err := g.send(ctx, o.submission); err != nil {
		return res, fmt.Errorf("fill the queue: %w", err)
	}
	filled := time.Since(begin)
	latest, highest, err := o.letters(ctx, s, letters)
	if err != nil {
		return res, err
	}
	o.proc.stop()
	if err := o.start(ctx); err != nil {
		return res, err
	}
	again, after, err := o.letters(ctx, s, letters)
	res.ours = []float64{highest}
	res.note = fmt.Sprintf("one run; the latest of %d letters to another domain was there %.3f s after its submission began (target 1 s); queued in %.0f s by SMTP, 1,000 recipients a message; after a restart %s and %.3f s",
		letters, latest.Seconds(), filled.Seconds(), figure(after, "MiB"), again.Seconds())
	return res, err
}

// letters sends letters one after the other, and tells how long the slowest took from the
// beginning of its submission until the sink had it, and the most memory seen between them.
func (o *ours) letters(ctx context.Context, s *sink, n int) (slowest time.Duration, mib float64, err error) {
	for range n {
		begin, before := time.Now(), s.messages()
		if err := (outgoing{messages: 1, sessions: 1, octets: 4096, to: one("fast.test")}).send(ctx, o.submission); err != nil {
			return slowest, mib, err
		}
		if err := waitCount(ctx, s.messages, before+1); err != nil {
			return slowest, mib, err
		}
		slowest = max(slowest, time.Since(begin))
		now, err := rss(o.pid())
		if err != nil {
			return slowest, mib, err
		}
		mib = max(mib, now)
	}
	return slowest, mib, nil
}
