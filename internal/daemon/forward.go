package daemon

import (
	"log/slog"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/forward"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/returned"
	"poczta.example/poczta/internal/vacation"
)

// onward is what becomes of mail behind the mailbox: forwards, replies, and reports that
// come back.
type onward struct {
	forward *forward.Forwarding
	answers *report.Answers
	returns *returned.Returns
}

// newOnward builds it above the rooms.
func newOnward(r *Rooms, host address.Domain, rep *report.Reporter, metrics *obs.Metrics, log *slog.Logger) (*onward, error) {
	o := &onward{}
	var err error
	if o.forward, err = forward.New(forward.Config{DB: r.DB, Router: r.Accounts, Owners: r.Accounts, Accepter: r.Post, Hostname: host, Logger: log, Hooks: metrics.Forwards()}); err != nil {
		return nil, err
	}
	memory, err := vacation.New(vacation.Config{DB: r.DB})
	if err != nil {
		return nil, err
	}
	if o.answers, err = report.NewAnswers(rep, r.Accounts, memory); err != nil {
		return nil, err
	}
	o.returns, err = returned.New(returned.Config{DB: r.DB, Trace: r.Trace, Hostname: host, Separator: r.Config.SMTP.SubaddressSplitter, Forwards: o.forward, Logger: log})
	return o, err
}
