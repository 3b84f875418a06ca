package rspamd_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/rspamdtest"
	"poczta.example/poczta/internal/rspamd"
	"poczta.example/poczta/internal/verdict"
)

// TestRspamd asks and teaches a real Rspamd, and then freezes and kills it.
func TestRspamd(t *testing.T) {
	t.Parallel()
	s := rspamdtest.Start(t)
	var dials atomic.Int64
	c := newClient(t, "http://"+s.Check, func(c *rspamd.Config) {
		c.Controller, c.Password, c.Obey, c.Timeout = "http://"+s.Controller, rspamdtest.Password, true, 10*time.Second
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	check := func(body string) (rspamd.Result, error) {
		m, all := sample(t), strings.Replace(text, "Hi.", body, 1)
		m.Size = int64(len(all))
		return c.Check(t.Context(), m, strings.NewReader(all))
	}
	for range 3 {
		r, err := check("Good day.")
		if err != nil || r.Action != rspamd.NoAction || r.Required != 15 {
			t.Fatalf("clean: %+v, %v", r, err)
		}
	}
	t.Logf("%d connections for 3 messages", dials.Load())
	r, err := check(rspamdtest.GTUBE)
	if items := r.Items(); err != nil || r.Action != rspamd.Reject || len(items) != 1 || items[0].Demand != verdict.Refuse || len(r.Symbols) == 0 || r.Symbols[0].Name != "GTUBE" {
		t.Errorf("GTUBE: %+v, %v", r, err)
	}
	for _, spam := range []bool{true, false} {
		if err := c.Learn(t.Context(), strings.NewReader(text), int64(len(text)), spam); err != nil {
			t.Errorf("learn %v: %v", spam, err)
		}
	}
	wrong := newClient(t, "http://"+s.Check, func(c *rspamd.Config) { c.Controller, c.Password = "http://"+s.Controller, "wrong" })
	if err := wrong.Learn(t.Context(), strings.NewReader(text), int64(len(text)), true); !errors.Is(err, rspamd.ErrReply) {
		t.Errorf("learn with a wrong password: %v", err)
	}

	workers := s.Workers()
	if len(workers) == 0 {
		t.Fatal("rspamd has no workers")
	}
	signal := func(sig syscall.Signal) {
		for _, id := range workers {
			if p, err := os.FindProcess(id); err == nil {
				_ = p.Signal(sig)
			}
		}
	}
	signal(syscall.SIGSTOP)
	frozen := newClient(t, "http://"+s.Check, func(c *rspamd.Config) { c.Timeout = 300 * time.Millisecond })
	if _, err := frozen.Check(t.Context(), sample(t), strings.NewReader(text)); !errors.Is(err, rspamd.ErrTimeout) {
		t.Errorf("frozen: %v", err)
	}
	asked := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		_, err := c.Check(t.Context(), rspamd.Message{Size: int64(len(text))}, &onRead{Reader: strings.NewReader(text), begun: begun})
		asked <- err
	}()
	<-begun
	_ = s.Process.Kill() // before its workers, so that it starts no new ones
	signal(syscall.SIGKILL)
	if err := <-asked; !errors.Is(err, rspamd.ErrUnavailable) {
		t.Errorf("killed in mid-request: %v", err)
	}
	if _, err := check("Good day."); !errors.Is(err, rspamd.ErrUnavailable) {
		t.Errorf("after its death: %v", err)
	}
}

// onRead tells when the message is being read.
type onRead struct {
	*strings.Reader
	begun chan struct{}
	told  bool
}

// Read implements io.Reader.
func (r *onRead) Read(p []byte) (int, error) {
	if !r.told {
		r.told = true
		close(r.begun)
	}
	return r.Reader.Read(p)
}
