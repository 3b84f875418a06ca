package obs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/obs"
)

// TestClamdOutcomes: a scan without a result is counted under the words that the other filters
// have, by which docs/operations.md lets people watch them all.
func TestClamdOutcomes(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		clamd.ErrTooLarge: "too_large", clamd.ErrConnect: "unavailable", clamd.ErrCut: "unavailable", clamd.ErrTimeout: "timeout", clamd.ErrBusy: "timeout",
		context.DeadlineExceeded: "timeout", context.Canceled: "cancelled", clamd.ErrReply: "reply", clamd.ErrRefused: "reply", errors.New("other"): "failed",
	} {
		m := obs.NewMetrics()
		m.Clamd().Failed(fmt.Errorf("scan: %w", err), time.Second)
		_, text := page(t, m, "/metrics", nil)
		if line := `poczta_filter_asked_total{filter="clamd",outcome="` + want + `"} 1`; !strings.Contains(text, line) {
			t.Errorf("%v: /metrics lacks %s", err, line)
		}
	}
}
