package obs

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"poczta.example/poczta/internal/attachment"
	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/digest"
	"poczta.example/poczta/internal/dmarcreport"
	"poczta.example/poczta/internal/dnslist"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/greylist"
	"poczta.example/poczta/internal/hook"
	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/rspamd"
	"poczta.example/poczta/internal/training"
	"poczta.example/poczta/internal/verdict"
	"poczta.example/poczta/internal/verify"
)

// filterFigures are those of verification and filters.
type filterFigures struct {
	verified   *family // method, result
	verifyWait *figure //
	evidence   *family // name
	decisions  *family // direction, action
	judged     *figure //
	outside    *family // filter, outcome
	outsideFor *family // filter
	lists      *family // zone, outcome
	listsOff   *family // zone
	greylist   *family // action
	classified *family // answer
	learned    *family // class
	trips      *family // rule, action
	inspected  *figure //
	unpacked   *figure //
	lost       *family // room
	apart      *family // kind, step
	reports    *family // kind, direction
}

func (m *Metrics) filters() *filterFigures {
	return &filterFigures{
		verified:   counters(m, "poczta_verify_results_total", "Results of verification.", "method", "result"),
		verifyWait: histogram(m, "poczta_verify_wait_seconds", "How long a message's end waited for its verification.", latency),
		evidence:   counters(m, "poczta_filter_evidence_total", "Evidence that was found.", "name"),
		decisions:  counters(m, "poczta_filter_decisions_total", "Decisions, one for each recipient, or one for a message that was refused.", "direction", "action"),
		judged:     histogram(m, "poczta_filter_seconds", "From the end of a message to its judgement.", latency),
		outside:    counters(m, "poczta_filter_asked_total", "Messages that other filters were asked about.", "filter", "outcome"),
		outsideFor: histograms(m, "poczta_filter_asked_seconds", "How long other filters took over a message.", latency, "filter"),
		lists:      counters(m, "poczta_dnslist_lookups_total", "Questions to DNS lists.", "zone", "outcome"),
		listsOff:   gauges(m, "poczta_dnslist_off", "1 while a DNS list is left alone because it failed its test.", "zone"),
		greylist:   counters(m, "poczta_greylist_total", "Suspicious strangers, by what became of them.", "action"),
		classified: counters(m, "poczta_classifier_judged_total", "Answers of the classifier.", "answer"),
		learned:    counters(m, "poczta_classifier_learned_total", "Messages that the classifier learned.", "class"),
		trips:      counters(m, "poczta_conduct_trips_total", "Accounts that a rule of conduct struck.", "rule", "action"),
		inspected:  counter(m, "poczta_attachment_files_total", "Attached files that were looked at."),
		unpacked:   counter(m, "poczta_attachment_unpacked_octets_total", "Octets of archives that were unpacked."),
		lost:       counters(m, "poczta_filter_notes_lost_total", "Notes that found no room in memory or table.", "room"),
		apart:      counters(m, "poczta_set_apart_total", "Messages set apart, and what became of them.", "kind", "step"),
		reports:    counters(m, "poczta_dmarc_reports_total", "Reports about DMARC.", "kind", "direction"),
	}
}

// Verify returns the hooks of package verify.
func (m *Metrics) Verify() verify.Hooks {
	return verify.Hooks{
		Result: func(method, result string) { m.filter.verified.with(method, result).inc() },
		Waited: func(d time.Duration) { m.filter.verifyWait.observe(d.Seconds()) },
	}
}

// Filter returns those hooks of package filter that are figures.
func (m *Metrics) Filter() filter.Hooks {
	return filter.Hooks{
		Decided: func(outgoing bool, action verdict.Action) {
			direction := "incoming"
			if outgoing {
				direction = "outgoing"
			}
			m.filter.decisions.with(direction, action.String()).inc()
		},
		Judged: func(took time.Duration) { m.filter.judged.observe(took.Seconds()) },
		Found:  func(name verdict.Name) { m.filter.evidence.with(string(name)).inc() },
	}
}

// Clamd returns the hooks of package clamd.
func (m *Metrics) Clamd() clamd.Hooks {
	asked := m.asked("clamd")
	return clamd.Hooks{
		Scanned: func(r clamd.Result, took time.Duration) {
			if r.Infected {
				asked("infected", took)
				return
			}
			asked("clean", took)
		},
		Failed: func(err error, took time.Duration) { asked(clamdOutcome(err), took) },
	}
}

// clamdOutcome is the word for a scan that gave no result, as other filters have it.
func clamdOutcome(err error) string {
	switch {
	case errors.Is(err, clamd.ErrTooLarge):
		return "too_large"
	case errors.Is(err, clamd.ErrTimeout), errors.Is(err, clamd.ErrBusy), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, clamd.ErrConnect), errors.Is(err, clamd.ErrCut):
		return "unavailable"
	case errors.Is(err, clamd.ErrReply), errors.Is(err, clamd.ErrRefused):
		return "reply"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "failed"
}

// Rspamd returns the hooks of package rspamd.
func (m *Metrics) Rspamd() rspamd.Hooks {
	return rspamd.Hooks{Asked: m.asked("rspamd"), Learned: func(outcome string, _ time.Duration) { m.filter.outside.with("rspamd learning", outcome).inc() }}
}

// RspamdDropped counts a message that Rspamd was not taught, with why in a word.
func (m *Metrics) RspamdDropped(why string) { m.filter.outside.with("rspamd learning", why).inc() }

// Milter returns the hooks of the milter of a name.
func (m *Metrics) Milter(name string) milter.Hooks {
	return milter.Hooks{Filtered: m.asked("milter " + name)}
}

// Hook returns the hooks of package hook.
func (m *Metrics) Hook() hook.Hooks { return hook.Hooks{Asked: m.asked("hook")} }

// asked counts questions to a filter.
func (m *Metrics) asked(name string) func(outcome string, took time.Duration) {
	seconds := m.filter.outsideFor.with(name)
	return func(outcome string, took time.Duration) {
		m.filter.outside.with(name, outcome).inc()
		seconds.observe(took.Seconds())
	}
}

// Lists returns the hooks of package dnslist.
func (m *Metrics) Lists() dnslist.Hooks {
	return dnslist.Hooks{
		Asked:   func(zone string, o dnslist.Outcome, _ time.Duration) { m.filter.lists.with(zone, o.String()).inc() },
		Refused: func(string, netip.Addr) {},
		Health: func(zone string, why error) {
			off := 0.0
			if why != nil {
				off = 1
			}
			m.filter.listsOff.with(zone).set(off)
		},
	}
}

// Attachments returns the hooks of package attachment.
func (m *Metrics) Attachments() attachment.Hooks {
	return attachment.Hooks{Inspected: func(files int, unpacked int64) {
		m.filter.inspected.add(float64(files))
		m.filter.unpacked.add(float64(unpacked))
	}}
}

// Greylist returns the hooks of package greylist.
func (m *Metrics) Greylist() greylist.Hooks {
	return greylist.Hooks{
		Decided: func(d greylist.Decision) { m.filter.greylist.with(d.Action.String()).inc() },
		Dropped: func(n int64) { m.filter.lost.with("greylist").add(float64(n)) },
	}
}

// Classifier returns the hooks of package classifier.
func (m *Metrics) Classifier() classifier.Hooks {
	return classifier.Hooks{
		Judged: func(a classifier.Answer, _ time.Duration) { m.filter.classified.with(a.String()).inc() },
		Learned: func(spam bool, samples int) {
			class := "ham"
			if spam {
				class = "spam"
			}
			m.filter.learned.with(class).add(float64(samples))
		},
	}
}

// Reputation returns the hooks of package reputation.
func (m *Metrics) Reputation() reputation.Hooks {
	return reputation.Hooks{Dropped: m.filter.lost.with("reputation").inc}
}

// Conduct returns the hooks of package conduct.
func (m *Metrics) Conduct() conduct.Hooks {
	return conduct.Hooks{
		Tripped: func(t conduct.Trip) { m.filter.trips.with(t.Rule, t.Action.String()).inc() },
		Dropped: m.filter.lost.with("conduct").inc,
	}
}

// Quarantine returns the hooks of package quarantine.
func (m *Metrics) Quarantine() quarantine.Hooks {
	step := func(name string) func(quarantine.Kind) {
		return func(k quarantine.Kind) { m.filter.apart.with(string(k), name).inc() }
	}
	return quarantine.Hooks{Noted: step("noted"), Released: step("released"), Deleted: step("deleted"),
		Expired: func(n int) { m.filter.apart.with("", "expired").add(float64(n)) }}
}

// Digest returns the hooks of package digest.
func (m *Metrics) Digest() digest.Hooks {
	return digest.Hooks{
		Sent:    func(items int) { m.filter.apart.with("", "told").add(float64(items)) },
		Action:  func(what string) { m.filter.apart.with("", "asked to "+what).inc() },
		Refused: m.filter.apart.with("", "wrong token").inc,
	}
}

// Training returns the hooks of package training.
func (m *Metrics) Training() training.Hooks {
	return training.Hooks{Learned: func(spam bool, n int) {
		m.filter.apart.with("", map[bool]string{true: "taught as spam", false: "taught as ham"}[spam]).add(float64(n))
	}}
}

// DMARCReports returns the hooks of package dmarcreport.
func (m *Metrics) DMARCReports() dmarcreport.Hooks {
	return dmarcreport.Hooks{
		Sent:     m.filter.reports.with("aggregate", "sent").inc,
		Received: func(kind string) { m.filter.reports.with(kind, "received").inc() },
		Dropped:  m.filter.lost.with("dmarc reports").inc,
	}
}
