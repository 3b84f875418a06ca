package daemon

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtpserver"
	"poczta.example/poczta/internal/submit"
)

// submission is the submission side, whose [submission] a reload may replace. A
// transaction goes on under the one it began with.
type submission struct {
	base    submit.Config // all but what [submission] says
	current atomic.Pointer[submissionRules]
}

// submissionRules is [submission] with the service that keeps to it.
type submissionRules struct {
	c       config.Submission
	service *submit.Service
}

// newSubmission begins with c.
func newSubmission(base submit.Config, c config.Submission) (*submission, error) {
	s := &submission{base: base}
	rules, err := s.prepare(c)
	s.current.Store(rules)
	return s, err
}

// prepare makes the rules of c, which count from Store on. Rules that are the same as
// before are kept, with what was counted under them.
func (s *submission) prepare(c config.Submission) (*submissionRules, error) {
	if old := s.current.Load(); old != nil && reflect.DeepEqual(old.c, c) {
		return old, nil
	}
	hosts, err := submissionHosts(c.Hosts)
	if err != nil {
		return nil, err
	}
	own := s.base
	own.Hosts, own.PerHour, own.PerDay, own.ShowClient = hosts, c.HourlyLimit, c.DailyLimit, c.ClientAddress
	service, err := submit.New(own)
	if err != nil {
		return nil, err
	}
	return &submissionRules{c, service}, nil
}

// Begin implements smtpserver.Service.
func (s *submission) Begin(ctx context.Context, session *smtpserver.Session, env envelope.Envelope) (smtpserver.Transaction, error) {
	return s.current.Load().service.Begin(ctx, session, env)
}

// Takes implements receive.Submission.
func (s *submission) Takes(session *smtpserver.Session, env envelope.Envelope) bool {
	return s.current.Load().service.Takes(session, env)
}

// submissionHosts are the devices that [[submission.host]] names.
func submissionHosts(list []config.SubmissionHost) ([]submit.Host, error) {
	var out []submit.Host
	for _, h := range list {
		host := submit.Host{From: config.Prefixes(h.From), PerHour: h.HourlyLimit}
		for _, s := range h.Addresses {
			if domain, ok := strings.CutPrefix(s, "@"); ok {
				d, err := address.ParseDomain(domain)
				if err != nil {
					return nil, fmt.Errorf("submission host: %w", err)
				}
				host.Domains = append(host.Domains, d)
				continue
			}
			a, err := address.Parse(s)
			if err != nil {
				return nil, fmt.Errorf("submission host: %w", err)
			}
			host.Addresses = append(host.Addresses, a)
		}
		out = append(out, host)
	}
	return out, nil
}
