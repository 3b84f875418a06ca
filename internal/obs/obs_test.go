package obs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/smtp"
)

func page(t *testing.T, m *obs.Metrics, path string, health error) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(func(context.Context) error { return health }).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

// sample is a line of the text format.
var sample = regexp.MustCompile(`^([a-z_][a-z0-9_]*)(\{([a-z_]+="(\\.|[^"\\])*",?)+\})? (\S+)$`)

func TestTextFormat(t *testing.T) {
	t.Parallel()
	m := obs.NewMetrics()
	s := m.SMTP("smtp")
	s.Opened()
	s.Replied(smtp.VerbUnknown, 502)
	s.Message(4096, 250, 3*time.Millisecond)
	s.Message(10, 452, time.Minute)
	m.POP3("pop3").Command(pop3.VerbNone, false, 0)
	m.Accounts().Login("pop3", "PLAIN", "a\"b\\c\nd")
	m.Certificate("mail.example.org", time.Unix(1e9, 0))
	m.Reloaded(errors.New("x"))
	code, text := page(t, m, "/metrics", nil)
	if code != 200 {
		t.Fatalf("got status %d", code)
	}
	for _, want := range []string{
		"# TYPE poczta_sessions gauge\n", "\npoczta_sessions{service=\"smtp\"} 1\n",
		`poczta_messages_received_total{reply="2xx",service="smtp"} 1`,
		`poczta_messages_received_octets_total{service="smtp"} 4106`,
		`poczta_data_seconds_bucket{service="smtp",le="0.0025"} 0`,
		`poczta_data_seconds_bucket{service="smtp",le="0.005"} 1`,
		`poczta_data_seconds_bucket{service="smtp",le="10"} 1`,
		`poczta_data_seconds_bucket{service="smtp",le="+Inf"} 2`,
		`poczta_data_seconds_count{service="smtp"} 2`,
		`poczta_logins_total{mechanism="plain",protocol="pop3",result="a\"b\\c\nd"} 1`,
		`poczta_certificate_expiry_seconds{name="mail.example.org"} 1e+09`,
		`poczta_reloads_total{result="failed"} 1`,
		"process_resident_memory_bytes", "go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	typed := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if f := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") {
			if typed[f[2]] {
				t.Errorf("%s has two TYPE lines", f[2])
			}
			typed[f[2]] = true
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := sample.FindStringSubmatch(line)
		if f == nil {
			t.Errorf("not a sample: %q", line)
			continue
		}
		if v, err := strconv.ParseFloat(f[5], 64); err != nil || math.IsNaN(v) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestSeriesAreBounded has a peer choose label values.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	m := obs.NewMetrics()
	for i := range 5000 {
		m.Accounts().Login("pop3", "plain", strconv.Itoa(i))
	}
	_, text := page(t, m, "/metrics", nil)
	if n := strings.Count(text, "poczta_logins_total{"); n > 501 {
		t.Errorf("got %d series", n)
	}
	if !strings.Contains(text, `poczta_logins_total{mechanism="other",protocol="other",result="other"} 4500`) {
		t.Error("what is beyond the bound is not counted")
	}
}

func TestConcurrentCounting(t *testing.T) {
	t.Parallel()
	m := obs.NewMetrics()
	h := m.SMTP("smtp")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				h.Opened()
				h.Message(1, 250, time.Millisecond)
				h.Closed(0)
			}
		})
	}
	for range 10 {
		page(t, m, "/metrics", nil)
	}
	wg.Wait()
	_, text := page(t, m, "/metrics", nil)
	for _, want := range []string{`poczta_sessions{service="smtp"} 0`, `poczta_sessions_total{service="smtp"} 8000`, `poczta_data_seconds_count{service="smtp"} 8000`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	m := obs.NewMetrics()
	if code, text := page(t, m, "/healthz", nil); code != 200 || text != "ok\n" {
		t.Errorf("got %d %q", code, text)
	}
	if code, text := page(t, m, "/healthz", errors.New("database is gone")); code != 503 || !strings.Contains(text, "database is gone") {
		t.Errorf("got %d %q", code, text)
	}
	if code, _ := page(t, m, "/other", nil); code != 404 {
		t.Errorf("got %d", code)
	}
}

func TestLogger(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	level := new(slog.LevelVar)
	log := obs.NewLogger(&b, "json", level)
	log.Debug("hidden")
	log.Info("shown", "took", 1500*time.Millisecond)
	level.Set(obs.Level("debug"))
	log.Debug("now shown")
	var first map[string]any
	if err := json.Unmarshal([]byte(strings.SplitN(b.String(), "\n", 2)[0]), &first); err != nil {
		t.Fatal(err)
	}
	if first["msg"] != "shown" || first["took"] != "1.5s" || !strings.HasSuffix(first["time"].(string), "Z") {
		t.Errorf("got %v", first)
	}
	if !strings.Contains(b.String(), "now shown") {
		t.Error("the level was not changed")
	}
	for s, want := range map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError, "info": slog.LevelInfo, "": slog.LevelInfo} {
		if obs.Level(s) != want {
			t.Errorf("level %q: got %v", s, obs.Level(s))
		}
	}
}

func BenchmarkMessageHook(b *testing.B) {
	h := obs.NewMetrics().SMTP("smtp")
	b.ReportAllocs()
	for b.Loop() {
		h.Message(4096, 250, 3*time.Millisecond)
	}
}
