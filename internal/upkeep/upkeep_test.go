package upkeep_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/upkeep"
)

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var did []string
		var log bytes.Buffer
		kick := make(chan struct{})
		failing := errors.New("the disk is full")
		ctx, cancel := context.WithCancel(t.Context())
		r := upkeep.Rounds{
			WriteEvery: 5 * time.Second, SweepEvery: 12 * time.Second, Kick: kick, Failed: "could not be kept", Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Write: func(ctx context.Context) error {
				did = append(did, "write "+time.Since(start).String())
				switch {
				case time.Since(start) == 5*time.Second:
					return failing
				case time.Since(start) == 10*time.Second:
					return context.Canceled
				}
				return ctx.Err()
			},
			Sweep: func(context.Context) error {
				did = append(did, "sweep "+time.Since(start).String())
				return nil
			},
		}
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		time.AfterFunc(7*time.Second, func() { kick <- struct{}{} })
		time.AfterFunc(13*time.Second, cancel)
		if err := <-ended; err != nil {
			t.Errorf("the last write: %v", err)
		}
		want := []string{"write 5s", "write 7s", "write 10s", "sweep 12s", "write 13s"}
		if diff := cmp.Diff(want, did); diff != "" {
			t.Errorf("rounds (-want +got):\n%s", diff)
		}
		if n := strings.Count(log.String(), "could not be kept"); n != 1 || !strings.Contains(log.String(), failing.Error()) {
			t.Errorf("told %d times: %s", n, log.String())
		}
	})
}

func TestRunEndsWithTheLastError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		hangs := func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := upkeep.Rounds{Write: hangs, Sweep: hangs, WriteEvery: time.Hour, SweepEvery: time.Hour, Logger: slog.New(slog.DiscardHandler)}
		if err := r.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the last write was given %s", took)
		}
	})
}
