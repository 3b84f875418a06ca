package clamd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/clamd"
)

// sleeper is a clamd on pipes whose answers can be held back.
type sleeper struct {
	scans, pings atomic.Bool // are answered
	asked        atomic.Int32
	dialled      atomic.Int32
	ended        sync.WaitGroup
}

func (d *sleeper) dial(context.Context, string, string) (net.Conn, error) {
	d.dialled.Add(1)
	ours, theirs := net.Pipe()
	d.ended.Go(func() {
		defer theirs.Close()
		command, _, err := receive(theirs)
		answer, answers := "stream: OK\x00", &d.scans
		if command == "zPING" {
			d.asked.Add(1)
			answer, answers = "PONG\x00", &d.pings
		}
		if err == nil && answers.Load() {
			_, _ = io.WriteString(theirs, answer)
			return
		}
		_, _ = io.Copy(io.Discard, theirs)
	})
	return ours, nil
}

func (d *sleeper) client(t *testing.T) *clamd.Client {
	return client(t, clamd.Config{Network: "unix", Address: "clamd", Dial: d.dial, Timeout: time.Minute, ConnectTimeout: 5 * time.Second, Scans: 2})
}

// TestRest: of a clamd that hangs, the messages of one minute wait for their time limit, those
// behind them do not, and it is used again soon after it is back.
func TestRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &sleeper{}
		c := d.client(t)
		began := time.Now()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := c.Scan(t.Context(), strings.NewReader("x")); !errors.Is(err, clamd.ErrTimeout) && !errors.Is(err, clamd.ErrBusy) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != 65*time.Second {
			t.Errorf("the first messages waited %v, want a minute and five seconds for PING", took)
		}
		scan := func(want error, within time.Duration) {
			t.Helper()
			began := time.Now()
			if _, err := c.Scan(t.Context(), strings.NewReader("x")); !errors.Is(err, want) || time.Since(began) != within {
				t.Errorf("got %v after %v, want %v after %v", err, time.Since(began), want, within)
			}
		}
		before := d.dialled.Load()
		for range 100 {
			scan(clamd.ErrTimeout, 0)
		}
		if n := d.dialled.Load() - before; n != 0 {
			t.Errorf("connected %d times while it rests", n)
		}
		<-time.After(10 * time.Second)
		scan(clamd.ErrTimeout, 5*time.Second) // this one asks, and gets no answer
		scan(clamd.ErrTimeout, 0)
		d.pings.Store(true)
		d.scans.Store(true)
		scan(clamd.ErrTimeout, 0)
		<-time.After(10 * time.Second)
		scan(nil, 0)
		scan(nil, 0)
		if n := d.asked.Load(); n != 3 {
			t.Errorf("asked %d times whether it is there, want 3", n)
		}
		d.ended.Wait()
	})
}

// TestSlowMessage: messages that clamd takes too long for don't keep it from being asked about
// others, or their senders could have everything pass unscanned.
func TestSlowMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &sleeper{}
		d.pings.Store(true)
		c := d.client(t)
		for range 3 {
			if _, err := c.Scan(t.Context(), strings.NewReader("slow")); !errors.Is(err, clamd.ErrTimeout) {
				t.Errorf("got %v", err)
			}
		}
		d.scans.Store(true)
		if _, err := c.Scan(t.Context(), strings.NewReader("quick")); err != nil {
			t.Error(err)
		}
		d.ended.Wait()
	})
}

// TestImpatience: that a caller went away says nothing of clamd, neither from a scan nor from PING.
func TestImpatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, patience := range []time.Duration{time.Second, 62 * time.Second} {
			d := &sleeper{}
			c := d.client(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if _, err := c.Scan(ctx, strings.NewReader("x")); !errors.Is(err, clamd.ErrTimeout) {
				t.Errorf("got %v", err)
			}
			cancel()
			d.scans.Store(true)
			if _, err := c.Scan(t.Context(), strings.NewReader("x")); err != nil {
				t.Errorf("with a patience of %v: %v", patience, err)
			}
			d.ended.Wait()
		}
	})
}
