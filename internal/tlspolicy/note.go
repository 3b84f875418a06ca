package tlspolicy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/tlsrpt"
)

// Bounds of what waits to be written.
const (
	maxApplied = 8 << 10 // octets of a policy's text for reports
	maxPending = 5_000   // keys of counts, and hosts; beyond, details are left out
	writeEvery = 10 * time.Second
	batchRows  = 250 // of one transaction
	keepCounts = 8 * 24 * time.Hour
)

// Applied is the policy that a session was held against.
type Applied struct {
	Type   tlsrpt.PolicyType
	Domain string // the policy's domain: of tlsa the TLSA base domain
	Text   string // the policy's lines

	// failure is what every session under the policy is counted as, though it went
	// on: the policy could not be fetched, or in mode testing does not name the host.
	failure tlsrpt.Result
	detail  string
}

// hash names the text within tls_applied.
func (a Applied) hash() string {
	sum := sha256.Sum256([]byte(a.Domain + "\n" + a.Text))
	return hex.EncodeToString(sum[:12])
}

// Count is one row of a day's report.
type Count struct {
	Day    int64 // days since 1970, UTC
	Domain string
	Type   tlsrpt.PolicyType
	Policy string // hash of the policy's text
	Result tlsrpt.Result
	Host   string // of failures
	Addr   string
	Local  string
	Detail string
}

// tally is how often, and the policy's text.
type tally struct {
	sessions int64
	applied  string
}

// Result is the outcome of one session, or of a host that was not tried.
type Result struct {
	Verdict Verdict    // Requirement.Check's
	Skipped *HostError // instead: Plan.Host's error
	Addr    netip.Addr // the host's; may be zero
	Local   netip.Addr // ours; may be zero
}

// Note counts a session for reports and remembers what the host has shown. It
// only touches memory; Run writes. What is noted within the last ten seconds
// before a crash is lost, which costs a report its exactness and nothing else.
func (s *Store) Note(_ context.Context, r Result) {
	req, result, reason := r.Verdict.req, r.Verdict.Result, r.Verdict.reason
	if r.Skipped != nil {
		req, result, reason = r.Skipped.req, r.Skipped.Result, ""
	}
	if req.store != s || req.fixed || req.Level == None {
		return // a Verdict that Check did not make, a host of ours, or TLS that is switched off
	}
	s.mu.Lock()
	if !s.cfg.NoReports && !req.Domain.IsLiteral() {
		s.tally(req, result, reason, r)
	}
	downgrade := r.Skipped == nil && s.remember(req, r.Verdict.Shown)
	full := len(s.counts) >= batchRows || len(s.seen) >= batchRows
	s.mu.Unlock()
	if full {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
	if r.Skipped == nil && s.cfg.Hooks.Session != nil {
		s.cfg.Hooks.Session(r.Verdict.Shown, r.Verdict.Err == nil)
	}
	if downgrade {
		s.cfg.Logger.Warn("host shows less TLS than before", "domain", req.Domain.String(), "host", req.Host.String(),
			"before", req.Expected.String(), "shown", r.Verdict.Shown.String(), "detail", clip(r.Verdict.Detail, 200), "refused", r.Verdict.Err != nil)
		if s.cfg.Hooks.Downgrade != nil {
			s.cfg.Hooks.Downgrade(req.Domain, req.Host, req.Expected, r.Verdict.Shown)
		}
	}
}

// tally counts one session. The caller holds mu.
func (s *Store) tally(req Requirement, result tlsrpt.Result, reason string, r Result) {
	c := Count{
		Day: day(s.cfg.Now()), Domain: req.Domain.String(), Type: req.applied.Type, Policy: req.applied.hash(), Result: result,
	}
	if result != tlsrpt.Success {
		c.Host, c.Detail = req.Host.String(), db.Text(clip(reason, 100))
		if r.Addr.IsValid() {
			c.Addr = r.Addr.String()
		}
		if r.Local.IsValid() {
			c.Local = r.Local.String()
		}
	}
	t := s.counts[c]
	if t == nil && len(s.counts) >= maxPending {
		c.Host, c.Addr, c.Local, c.Detail = "", "", "", ""
		t = s.counts[c]
	}
	if t == nil {
		if len(s.counts) >= 2*maxPending {
			return
		}
		t = &tally{applied: req.applied.Domain + "\n" + wholeLines(req.applied.Text)}
		s.counts[c] = t
	}
	t.sessions++
}

// wholeLines is as much of a policy's text as is kept: a domain may publish 64 KiB, and other
// ones at every session.
func wholeLines(text string) string {
	if len(text) <= maxApplied {
		return text
	}
	text = text[:maxApplied]
	return text[:max(strings.LastIndexByte(text, '\n'), 0)]
}

// day is the number of a time's day.
func day(t time.Time) int64 { return t.Unix() / 86400 }

// Run writes what Note has noted, refreshes MTA-STS policies and drops what is
// old, until ctx ends; then it writes once more.
func (s *Store) Run(ctx context.Context) error {
	write, hourly := time.NewTicker(writeEvery), time.NewTicker(time.Hour)
	defer write.Stop()
	defer hourly.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return s.Flush(last)
		case <-write.C:
			s.complain(s.Flush(ctx))
		case <-s.kick:
			s.complain(s.Flush(ctx))
		case <-hourly.C:
			_, err := s.Refresh(ctx, 1000)
			s.complain(errors.Join(err, s.expire(ctx)))
		}
	}
}

func (s *Store) complain(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		s.cfg.Logger.Warn("TLS results could not be kept", "error", err)
	}
}

// Flush writes what Note has noted until a batch is not full: what comes in meanwhile may wait for
// the next call, as does what could not be written.
func (s *Store) Flush(ctx context.Context) error {
	for {
		counts, sights := s.batch()
		if len(counts)+len(sights) == 0 {
			return nil
		}
		err := s.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
			if err := writeSights(tx, sights, s.cfg.Forget); err != nil {
				return err
			}
			return writeCounts(tx, counts)
		})
		if err != nil {
			if !errors.Is(err, db.ErrUnknownOutcome) {
				s.putBack(counts, sights)
			}
			return err
		}
		if len(counts) < batchRows/2 && len(sights) < batchRows {
			return nil
		}
	}
}

// batch takes some of what waits.
func (s *Store) batch() (map[Count]*tally, map[memoryKey]sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts, sights := map[Count]*tally{}, map[memoryKey]sight{}
	for k, v := range s.counts {
		if len(counts) == batchRows/2 {
			break
		}
		counts[k] = v
		delete(s.counts, k)
	}
	for k, v := range s.seen {
		if len(sights) == batchRows {
			break
		}
		sights[k] = v
		delete(s.seen, k)
	}
	return counts, sights
}

func (s *Store) putBack(counts map[Count]*tally, sights map[memoryKey]sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range counts {
		if t := s.counts[k]; t != nil {
			t.sessions += v.sessions
		} else {
			s.counts[k] = v
		}
	}
	for k, v := range sights {
		if x, ok := s.seen[k]; ok {
			v.level = min(v.level, x.level)
		}
		s.seen[k] = v
	}
}

// countKey is the primary key of tls_count.
const countKey = "day, domain, policy_type, policy, result, host, addr, local, detail"

func writeCounts(tx db.Tx, counts map[Count]*tally) error {
	order := func(a, b Count) int { // rows are locked in one order by all nodes
		return cmp.Or(strings.Compare(a.Domain, b.Domain), cmp.Compare(a.Day, b.Day), strings.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	}
	for _, c := range slices.SortedFunc(maps.Keys(counts), order) {
		t := counts[c]
		if _, err := tx.Exec("INSERT INTO tls_applied (day, hash, text) VALUES (?, ?, ?) ON CONFLICT (day, hash) DO NOTHING", c.Day, c.Policy, t.applied); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO tls_count (day, domain, policy_type, policy, result, host, addr, local, detail, sessions)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (`+countKey+`) DO UPDATE SET sessions = tls_count.sessions + excluded.sessions`,
			c.Day, c.Domain, string(c.Type), c.Policy, string(c.Result), c.Host, c.Addr, c.Local, c.Detail, t.sessions)
		if err != nil {
			return err
		}
	}
	return nil
}

// expire drops counts and memories that are too old to be of use.
func (s *Store) expire(ctx context.Context) error {
	now := s.cfg.Now()
	old := day(now.Add(-keepCounts))
	for _, q := range []struct {
		table, key, condition string
		bound                 int64
	}{
		{"tls_count", countKey, "day < ?", old},
		{"tls_applied", "day, hash", "day < ?", old},
		{"tls_reported", "day, domain", "day < ?", old},
		{"tls_memory", "domain, host", "seen < ?", db.Micros(now.Add(-rememberFor))},
	} {
		if err := db.DropWhere(ctx, s.cfg.DB, q.table, q.key, q.condition, q.bound); err != nil {
			return err
		}
	}
	return nil
}
