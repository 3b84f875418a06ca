package relay

import "time"

// firstConnections is how many connections a site gets before it has shown what
// it bears.
const firstConnections = 2

// pace is how many connections a site bears: one more with each message it takes,
// half of them when it is in trouble. The zero value is not ready.
type pace struct{ limit, most int }

func newPace(most int) pace { return pace{limit: min(firstConnections, most), most: most} }

func (p *pace) success() {
	if p.limit < p.most {
		p.limit++
	}
}

func (p *pace) trouble() { p.limit = max(1, p.limit/2) }

// down leaves one connection, for the probe.
func (p *pace) down() { p.limit = 1 }

// meter bounds the messages of a minute: a bucket of a sixth of them, kept as the moment
// at which it is full again. The zero value is without limit.
type meter struct {
	perMinute int
	full      time.Time
}

// take takes a token, or says how long to wait for one.
func (m *meter) take(now time.Time) (wait time.Duration) {
	if m.perMinute <= 0 {
		return 0
	}
	each := time.Minute / time.Duration(m.perMinute)
	burst := each * time.Duration(max(1, m.perMinute/6))
	if m.full.Before(now) {
		m.full = now
	}
	if m.full.Sub(now)+each > burst {
		return m.full.Sub(now) + each - burst
	}
	m.full = m.full.Add(each)
	return 0
}
