package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"poczta.example/poczta/internal/pop3client"
)

// popClientRow lets the POP3 client of ours and a load generator that sends all its commands
// at once and only looks for the ends of messages retrieve the same maildrop from the same
// Dovecot, in turn. Ours also lists it and takes the dots off.
func popClientRow(box string, messages int, fast bool) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		res := result{unit: "messages/s", peerOf: "the load generator"}
		p, err := b.startPair(ctx, fast, true)
		if err != nil {
			return res, err
		}
		if err := p.fill(ctx, box); err != nil {
			return res, err
		}
		load := popLoad{sessions: 1, user: box + "@" + domain, users: 1, messages: messages, retrieve: true, pipeline: true, addr: p.pop3}
		if _, err := load.run(ctx, time.Millisecond); err != nil { // indexes and caches made
			return res, err
		}
		for range b.runs {
			begin, count := time.Now(), 0
			for first := true; first || time.Since(begin) < b.seconds; first = false {
				n, err := fetchByClient(ctx, p.pop3, fmt.Sprintf(load.user, 1))
				if err != nil || n != messages {
					return res, fmt.Errorf("client retrieved %d of %d messages: %w", n, messages, err)
				}
				count += n
			}
			res.ours = append(res.ours, float64(count)/time.Since(begin).Seconds())
			t, err := load.run(ctx, b.seconds)
			if err != nil {
				return res, err
			}
			res.peer = append(res.peer, t.messages)
		}
		return res, nil
	}
}

// fetchByClient retrieves all messages in one session and returns how many there were.
func fetchByClient(ctx context.Context, addr, user string) (n int, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	s, err := pop3client.Open(ctx, conn, pop3client.Config{Plaintext: true})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if err := s.Login(ctx, pop3client.Credentials{Username: user, Password: password}); err != nil {
		return 0, err
	}
	items, err := s.List(ctx)
	if err != nil {
		return 0, err
	}
	numbers := make([]int, len(items))
	for i, it := range items {
		numbers[i] = it.Number
	}
	err = s.Retrieve(ctx, numbers, func(_ int, r io.Reader) error {
		octets, err := io.Copy(io.Discard, r)
		if err == nil && octets != items[n].Octets {
			err = fmt.Errorf("message %d has %d octets, listed are %d", items[n].Number, octets, items[n].Octets)
		}
		n++
		return err
	})
	if err != nil {
		return n, err
	}
	return n, s.Quit(ctx)
}
