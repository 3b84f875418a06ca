package relaydomain

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/smtp"
)

// Queue is the queue as ETRN needs it.
type Queue interface {
	// Run makes everything that waits for domain due now, and returns without waiting
	// for its delivery how many messages wait, negative when that is not known.
	Run(ctx context.Context, domain address.Domain) (waiting int, err error)
}

// startRate is how often a domain's queue may be run on request. The table of
// buckets has room to spare, so that none is put out.
var startRate = limit.Rate{Burst: 5, Every: time.Minute}

const bucketsPerDomain = 64

// Starts reports whether peer may use ETRN for any domain.
func (d *Domains) Starts(peer netip.Addr) bool {
	if d.c.Queue == nil {
		return false
	}
	for _, one := range d.byName {
		if one.mayStart(peer) {
			return true
		}
	}
	return false
}

func (one *domain) mayStart(peer netip.Addr) bool {
	if !peer.IsValid() {
		return false
	}
	peer = peer.Unmap().WithZone("")
	for _, p := range one.ETRN {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// Start has the queues of the domains run that node names and peer may start: how
// many messages wait for them, negative when that is not known of one. The error
// is an *smtp.Error, 459 when there is no such domain, whatever the reason, and
// 458 when it was started too often.
func (d *Domains) Start(ctx context.Context, peer netip.Addr, node smtp.Node) (waiting int, err error) {
	domains := d.startable(peer, node)
	if len(domains) == 0 || d.c.Queue == nil {
		return 0, smtp.Refuse(459, 7, 1, "Node "+node.String()+" not allowed")
	}
	started, unknown := 0, false
	for _, one := range domains {
		if !d.starts.Allow(one.Name, d.c.Now()) {
			continue
		}
		n, err := d.c.Queue.Run(ctx, one.Name)
		if err != nil {
			return 0, &smtp.Error{Reply: smtp.Reply{Code: 458, Subject: 3, Text: "Unable to queue messages for node " + node.String()}, Err: err}
		}
		started++
		unknown = unknown || n < 0
		waiting += n
	}
	switch {
	case started == 0:
		return 0, smtp.Refuse(458, 7, 0, "Unable to queue messages for node "+node.String()+" so often; try again later")
	case unknown:
		return -1, nil
	}
	return waiting, nil
}

// startable are the domains that node names (RFC 1985 §5.3) and peer may start.
func (d *Domains) startable(peer netip.Addr, node smtp.Node) []*domain {
	var list []*domain
	if !node.Subdomains {
		if one := d.byName[node.Domain]; one != nil && one.mayStart(peer) {
			list = append(list, one)
		}
		return list
	}
	for name, one := range d.byName {
		if (name == node.Domain || strings.HasSuffix(name.String(), "."+node.Domain.String())) && one.mayStart(peer) {
			list = append(list, one)
		}
	}
	return list
}
