package relay

import (
	"context"
	"sync"
	"time"
)

// patience is how long a task may take before its connection is counted apart, so that
// hosts which say nothing for minutes leave connections to others.
const patience = 500 * time.Millisecond

// seat is a worker's share of Config.Connections. From patience on, and until the task ends,
// it is a share of Config.Patient instead, where one is free.
type seat struct {
	slots, patient *quota

	mu       sync.Mutex
	has      *quota // slots, patient, or nil for none
	watching bool
}

// take takes a place, waiting for it; false when ctx has ended.
func (p *seat) take(ctx context.Context) bool {
	p.leave()
	if p.slots.take(ctx, 1) == 0 {
		return false
	}
	p.set(p.slots)
	return true
}

// try takes a place if one is free and nobody waits for it.
func (p *seat) try() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.has != p.slots && p.slots.try() {
		p.swap(p.slots)
	}
	return p.has == p.slots
}

// leave gives the place back.
func (p *seat) leave() { p.set(nil) }

func (p *seat) set(q *quota) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swap(q)
}

// swap puts a place that was taken in the place of the old one, which it gives back; p.mu is held.
func (p *seat) swap(q *quota) {
	if p.has != nil {
		p.has.give(1)
	}
	p.has = q
}

// watch begins a task; the function that it returns ends it.
func (p *seat) watch() (end func()) {
	p.watched(true)
	late := time.AfterFunc(patience, p.part)
	return func() {
		late.Stop()
		p.watched(false)
	}
}

func (p *seat) watched(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watching = on
}

// part counts the connection apart, if its task still goes on.
func (p *seat) part() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watching && p.has == p.slots && p.patient.try() {
		p.swap(p.patient)
	}
}
