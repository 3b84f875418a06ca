package relay

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/tlspolicy"
)

// Bounds of what is remembered of sites and hosts.
const (
	maxSites    = 5_000
	maxWays     = 8               // routes of one line
	wayFresh    = 5 * time.Minute // how long a line goes by one look at DNS
	maxDown     = 10_000          // addresses that have just failed
	downFor     = time.Minute
	maxRetries  = 3           // of a task for which there was no connection beside those that work
	recentGood  = time.Minute // a site that took a message so lately is not down
	siteRemains = 10 * time.Minute
)

// way is how a line's mail goes by one route: the hosts and what TLS they must offer.
type way struct {
	route *Route
	site  *site
	hosts []mx.Host
	port  uint16
	plan  *tlspolicy.Plan // nil for fixed hosts, and without TLS
	found time.Time
}

// way finds the way of a line by a route.
func (s *shift) way(ctx context.Context, l *line, r *Route) (*way, error) {
	l.mu.Lock()
	w := l.ways[r]
	l.mu.Unlock()
	if w != nil && s.cfg.Now().Sub(w.found) < wayFresh {
		return w, nil
	}
	w = &way{route: r, port: s.cfg.Port, found: s.cfg.Now()}
	key := "socket " + r.Socket
	if r.Socket == "" {
		var err error
		if key, err = s.look(ctx, l, w); err != nil {
			return nil, err
		}
	}
	w.site = s.sites.get(key, s)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ways) >= maxWays {
		clear(l.ways)
	}
	l.ways[r] = w
	return w, nil
}

// look asks DNS for the hosts, and for what TLS they must offer.
func (s *shift) look(ctx context.Context, l *line, w *way) (key string, err error) {
	if w.route.fixed() {
		found, err := s.cfg.MX.Addrs(ctx, w.route.Host)
		if failed, ok := errors.AsType[*mx.Error](err); ok && failed.Permanent() {
			s.cfg.Logger.Error("relay can't find the host of a route", "route", w.route.Name, "host", w.route.Host.String(), "error", err)
			err = &mx.Error{Domain: failed.Domain, Err: err, Reply: smtp.Reply{Code: 451, Subject: 4, Detail: 4, Text: "The host of route " + w.route.Name + " can't be found: " + failed.Reply.Text}}
		}
		w.hosts, w.port = found.Hosts, w.route.Port
		return "route " + w.route.Name, err
	}
	found, err := s.cfg.MX.Hosts(ctx, l.domain)
	if err != nil {
		return "", err
	}
	w.hosts = found.Hosts
	if s.cfg.TLS != nil {
		if w.plan, err = s.cfg.TLS.Plan(ctx, l.domain, found); err != nil {
			return "", err
		}
	}
	return siteKey(w), nil
}

// siteKey names the hosts that destinations share.
func siteKey(w *way) string {
	names := make([]string, 0, len(w.hosts))
	for _, h := range w.hosts {
		name := h.Name.String()
		if name == "" && len(h.Addrs) > 0 {
			name = h.Addrs[0].String()
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if len(w.route.Sources) > 0 {
		names = append(names, "by "+w.route.Name)
	}
	return strings.Join(names, " ")
}

// site is the hosts that several destinations may share: one pool of connections, one
// pace, one rate.
type site struct {
	key, name string

	mu      sync.Mutex
	queue   []*task
	workers int // goroutines, each with at most one connection
	idle    int // of them, those that wait for a task
	pace    pace
	meter   meter
	good    time.Time // when it took a message last
	until   time.Time // it is down until
	status  string
	used    time.Time
	wake    chan struct{} // one token for each idle worker that should look
	stopped bool
}

// siteTable finds sites. Safe for concurrent use.
type siteTable struct {
	mu      sync.Mutex
	all     map[string]*site
	stopped bool
}

func (st *siteTable) get(key string, s *shift) *site {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := s.cfg.Now()
	if x := st.all[key]; x != nil {
		x.touch(now)
		return x
	}
	if st.all == nil {
		st.all = make(map[string]*site)
	}
	if len(st.all) >= maxSites {
		st.forget(now)
	}
	name, _, _ := strings.Cut(key, " ")
	if name == "route" || name == "socket" {
		name = key
	}
	x := &site{key: key, name: s.names.of(name), pace: newPace(s.cfg.PerSite), meter: meter{perMinute: s.cfg.RatePerSite}, wake: make(chan struct{}, s.cfg.PerSite), used: now, stopped: st.stopped}
	st.all[key] = x
	return x
}

// forget drops sites that nobody has used for a while; st.mu is held.
func (st *siteTable) forget(now time.Time) {
	for _, remains := range []time.Duration{siteRemains, time.Minute, 0} {
		for key, x := range st.all {
			if x.unused(now.Add(-remains)) {
				delete(st.all, key)
			}
		}
		if len(st.all) < maxSites {
			return
		}
	}
}

func (x *site) touch(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.used = now
}

func (x *site) unused(since time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.workers == 0 && len(x.queue) == 0 && !x.used.After(since) && x.until.Before(since)
}

// stop withdraws what was not begun and lets workers end.
func (st *siteTable) stop(s *shift) {
	st.mu.Lock()
	st.stopped = true
	sites := make([]*site, 0, len(st.all))
	for _, x := range st.all {
		sites = append(sites, x)
	}
	st.mu.Unlock()
	for _, x := range sites {
		x.mu.Lock()
		x.stopped = true
		x.rouse(cap(x.wake))
		x.mu.Unlock()
		for _, t := range x.drain() {
			s.withdraw(t)
		}
	}
}

// drain takes all tasks from the queue.
func (x *site) drain() []*task {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.queue
	x.queue = nil
	return all
}

// rouse wakes n idle workers; x.mu is held.
func (x *site) rouse(n int) {
	for range n {
		select {
		case x.wake <- struct{}{}:
		default:
			return
		}
	}
}

// add puts a task into a site's queue, and starts a worker where it may have another.
func (s *shift) add(work context.Context, x *site, t *task) {
	now := s.cfg.Now()
	x.mu.Lock()
	x.used = now
	switch {
	case x.stopped:
		x.mu.Unlock()
		s.withdraw(t)
	case now.Before(x.until) && !t.route.Fallback:
		tr := trouble{until: x.until, status: x.status}
		x.mu.Unlock()
		t.line.fail(tr)
		s.withdraw(t)
	default:
		x.queue = append(x.queue, t)
		x.rouse(1)
		s.grow(work, x)
		x.mu.Unlock()
	}
}

// grow starts a worker if there is more to do than idle workers; x.mu is held. A site's
// first worker waits for a connection, others only take one that is free.
func (s *shift) grow(work context.Context, x *site) {
	if x.stopped || x.workers >= x.pace.limit || len(x.queue) <= x.idle {
		return
	}
	first, own := x.workers == 0, &seat{slots: s.slots, patient: s.patient}
	if !first && !own.try() {
		return
	}
	x.workers++
	s.workers.Go(func() {
		defer own.leave()
		if first && !own.take(work) { // the work is cut off; stop has withdrawn what waits
			x.mu.Lock()
			x.off()
			return
		}
		s.work(work, x, own)
	})
}

// next takes a task, waiting for one at most idle. keep false ends the worker, which is
// counted off already.
func (s *shift) next(x *site, idle time.Duration) (t *task, keep bool) {
	var timer *time.Timer
	enough := time.Now().Add(idle)
	for {
		x.mu.Lock()
		over := x.workers > x.pace.limit || x.workers > 1 && s.slots.contended()
		if x.stopped || over && (len(x.queue) == 0 || x.workers > 1) {
			return nil, x.off()
		}
		wait := time.Duration(0)
		if len(x.queue) > 0 {
			if wait = x.meter.take(s.cfg.Now()); wait == 0 {
				t = x.queue[0]
				x.queue[0] = nil
				x.queue = x.queue[1:]
				x.mu.Unlock()
				return t, true
			}
		} else if wait = time.Until(enough); wait <= 0 || s.slots.contended() {
			return nil, x.off()
		}
		x.idle++
		x.mu.Unlock()
		if timer == nil {
			timer = time.NewTimer(wait)
			defer timer.Stop()
		} else {
			timer.Reset(wait)
		}
		select {
		case <-x.wake:
		case <-timer.C:
		}
		x.mu.Lock()
		x.idle--
		x.mu.Unlock()
	}
}

// resume gives a worker a place again whose task took so long that others have it. False ends
// the worker, which is counted off already.
func (s *shift) resume(work context.Context, x *site, own *seat) bool {
	x.mu.Lock()
	if x.stopped || len(x.queue) == 0 {
		return x.off()
	}
	x.mu.Unlock()
	if !own.take(work) { // as in grow
		x.mu.Lock()
		return x.off()
	}
	return true
}

// off counts a worker off; x.mu is held and let go.
func (x *site) off() bool {
	x.workers--
	x.mu.Unlock()
	return false
}

// took notes a message that the site took.
func (s *shift) took(work context.Context, x *site) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.good, x.until = s.cfg.Now(), time.Time{}
	x.pace.success()
	s.grow(work, x)
}

// slow notes that the site is in trouble.
func (x *site) slow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pace.trouble()
}

// again puts a task back into the queue when the site works for others just now: then it was
// too many connections. It reports whether it did.
func (s *shift) again(x *site, t *task) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stopped || t.tries >= maxRetries || x.workers < 2 || s.cfg.Now().Sub(x.good) > recentGood {
		return false
	}
	t.tries++
	x.pace.trouble()
	x.queue = append(x.queue, t)
	x.rouse(1)
	return true
}

// sink notes that the site is down, and gives back all that waits for it.
func (s *shift) sink(x *site, until time.Time, status string) {
	x.mu.Lock()
	x.until, x.status = until, status
	x.pace.down()
	x.mu.Unlock()
	for _, t := range x.drain() {
		t.line.fail(trouble{until: until, status: status, probed: true})
		s.withdraw(t)
	}
}

// downTable remembers addresses that have just failed, so that others are tried first. Safe
// for concurrent use.
type downTable struct {
	mu  sync.Mutex
	all map[netip.AddrPort]time.Time
}

func (d *downTable) note(a netip.AddrPort, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil || len(d.all) >= maxDown {
		d.all = make(map[netip.AddrPort]time.Time)
	}
	d.all[a] = now.Add(downFor)
}

func (d *downTable) has(a netip.AddrPort, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.all[a]
	if ok && !now.Before(until) {
		delete(d.all, a)
		return false
	}
	return ok
}

func (d *downTable) clear(a netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, a)
}
