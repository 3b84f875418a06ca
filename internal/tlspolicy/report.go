package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/tlsrpt"
)

// maxFailures bounds the failures of one policy that a report tells apart.
const maxFailures = 1000

// Day is the number of a time's UTC day since 1970, as reports count them.
func Day(t time.Time) int64 { return day(t) }

// Unreported returns domains with sessions on a day that was not reported yet, in
// order and behind after.
func (s *Store) Unreported(ctx context.Context, day int64, after string, limit int) (domains []address.Domain, err error) {
	err = s.cfg.DB.View(ctx, func(tx db.Tx) error {
		domains = nil
		rows, err := tx.Query(`SELECT DISTINCT domain FROM tls_count c WHERE day = ? AND domain > ?
			AND NOT EXISTS (SELECT 1 FROM tls_reported r WHERE r.day = c.day AND r.domain = c.domain) ORDER BY domain LIMIT ?`, day, after, int64(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			d, err := address.ParseDomain(name)
			if err != nil {
				return fmt.Errorf("row of tls_count: %w", err)
			}
			domains = append(domains, d)
		}
		return rows.Err()
	})
	return domains, err
}

// ErrReported is returned by MarkReported if a report was sent before.
var ErrReported = errors.New("this day was reported to the domain before")

// MarkReported notes, in the transaction that sends it, that a domain has its
// report for a day. ErrReported: somebody else sends it.
func (s *Store) MarkReported(tx db.Tx, day int64, domain address.Domain) error {
	n, err := tx.Exec("INSERT INTO tls_reported (day, domain, at) VALUES (?, ?, ?) ON CONFLICT (day, domain) DO NOTHING",
		day, domain.String(), db.Micros(s.cfg.Now()))
	if err == nil && n == 0 {
		return ErrReported
	}
	return err
}

// ClearReported takes MarkReported back, for a report that could not be sent.
func (s *Store) ClearReported(ctx context.Context, day int64, domain address.Domain) error {
	return s.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec("DELETE FROM tls_reported WHERE day = ? AND domain = ?", day, domain.String())
		return err
	})
}

// Sessions returns what a day's sessions with a domain came to, policy by policy.
func (s *Store) Sessions(ctx context.Context, day int64, domain address.Domain) (out []tlsrpt.PolicyResult, err error) {
	err = s.cfg.DB.View(ctx, func(tx db.Tx) error {
		out = nil
		rows, err := tx.Query(`SELECT c.policy_type, c.policy, a.text, c.result, c.host, c.addr, c.local, c.detail, c.sessions
			FROM tls_count c JOIN tls_applied a ON a.day = c.day AND a.hash = c.policy
			WHERE c.day = ? AND c.domain = ? ORDER BY c.policy_type, c.policy, c.result, c.host, c.addr, c.local, c.detail`, day, domain.String())
		if err != nil {
			return err
		}
		defer rows.Close()
		last := ""
		for rows.Next() {
			var kind, policy, text, result string
			var f tlsrpt.Failure
			if err := rows.Scan(&kind, &policy, &text, &result, &f.ReceivingHost, &f.ReceivingIP, &f.SendingIP, &f.Reason, &f.Sessions); err != nil {
				return err
			}
			if key := kind + " " + policy; key != last {
				last, out = key, append(out, tlsrpt.PolicyResult{Policy: applied(kind, text), Failures: []tlsrpt.Failure{}})
			}
			f.Result = tlsrpt.Result(result)
			add(&out[len(out)-1], f)
		}
		return rows.Err()
	})
	return out, err
}

// applied is a policy as reports show it; text is its domain and, behind that, its lines.
func applied(kind, text string) tlsrpt.Policy {
	domain, lines, _ := strings.Cut(text, "\n")
	p := tlsrpt.Policy{Type: tlsrpt.PolicyType(kind), Domain: domain}
	if lines != "" {
		p.Strings = strings.Split(lines, "\n")
	}
	for _, line := range p.Strings {
		if pattern, ok := strings.CutPrefix(line, "mx: "); ok && p.Type == tlsrpt.STS {
			p.MXHosts = append(p.MXHosts, pattern)
		}
	}
	return p
}

func add(p *tlsrpt.PolicyResult, f tlsrpt.Failure) {
	if f.Result == tlsrpt.Success {
		p.Summary.Success += f.Sessions
		return
	}
	p.Summary.Failure += f.Sessions
	if len(p.Failures) < maxFailures {
		p.Failures = append(p.Failures, f)
	}
}
