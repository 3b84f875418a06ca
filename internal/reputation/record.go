package reputation

import (
	"fmt"
	"math"
	"time"

	"poczta.example/poczta/internal/verdict"
)

// halfLife is how long it takes a count to lose half its weight.
const halfLife = 30 * 24 * time.Hour

// unit is what one message counts at the begin of a period.
const unit = 1 << 16

// record is a row. Counts fade without being rewritten: time is cut into periods of one
// half-life, and within a period a message counts the more the later it comes, so that all
// stand in the weight of the period's begin. Going to the next period halves what is there,
// which integer SQL can do, and sums of several nodes are the same in any order.
type record struct {
	period    int64 // number of the half-life since 1970
	good, bad int64 // messages × unit × 2^(part of the period that had passed)
	trap      int64 // µs
}

// place is a moment's period, and the weight of a message in it.
func place(now time.Time) (period int64, weight float64) {
	us, h := now.UnixMicro(), halfLife.Microseconds()
	period = us / h
	return period, math.Exp2(float64(us-period*h) / float64(h))
}

// newRecord is one verdict. The weight is bounded so that sums can't overflow.
func newRecord(now time.Time, spam bool, weight float64) record {
	period, w := place(now)
	n := int64(math.Round(min(max(weight, -1000), 1000) * w * unit))
	if spam {
		return record{period: period, bad: n}
	}
	return record{period: period, good: n}
}

// plus adds two records in the later period of both.
func (r record) plus(o record) record {
	if r.period < o.period {
		r, o = o, r
	}
	d := r.period - o.period
	if d > 62 {
		d = 62
	}
	return record{period: r.period, good: r.good + o.good/(1<<d), bad: r.bad + o.bad/(1<<d), trap: max(r.trap, o.trap)}
}

// counts is how many messages the record stands for now.
func (r record) counts(now time.Time) (good, bad float64) {
	period, w := place(now)
	f := math.Exp2(float64(r.period-period)) / w / unit
	return max(0, float64(r.good)*f), max(0, float64(r.bad)*f)
}

// From how many messages, and from which share on, something is said of a subject.
const (
	minCount  = 4.5 // five, a little faded
	goodBelow = 0.2 // share of bad messages
	badAbove  = 0.5
	trapFor   = 24 * time.Hour
	minScale  = 0.05
)

// names are the evidence of a kind: good, bad.
var names = map[Kind][2]verdict.Name{
	Network: {verdict.GoodNetwork, verdict.BadNetwork},
	Domain:  {verdict.GoodDomain, verdict.BadDomain},
	Address: {verdict.GoodSender, verdict.BadSender},
}

// Share is between which bounds the share of bad messages is likely to lie: Wilson's interval
// of one standard deviation, which is wide when little was seen.
func (st Standing) Share() (low, high float64) {
	n := st.Good + st.Bad
	if n <= 0 {
		return 0, 1
	}
	p := st.Bad / n
	mid := (p + 1/(2*n)) / (1 + 1/n)
	half := math.Sqrt(p*(1-p)/n+1/(4*n*n)) / (1 + 1/n)
	return max(0, mid-half), min(1, mid+half)
}

// items is the evidence of a Standing: nothing below minCount messages, and nothing of who
// sends some of both. The scale says how sure it is.
func (st Standing) items(now time.Time) []verdict.Item {
	var items []verdict.Item
	low, high := st.Share()
	enough := st.Good+st.Bad >= minCount
	detail := fmt.Sprintf("%s %s: %.0f good and %.0f bad messages so far", st.Kind, clip(st.Name), st.Good, st.Bad)
	if scale := 1 - high/goodBelow; enough && scale >= minScale {
		items = append(items, verdict.Item{Name: names[st.Kind][0], Detail: detail, Scale: scale})
	}
	if scale := (low - badAbove) / (1 - badAbove); enough && scale >= minScale {
		items = append(items, verdict.Item{Name: names[st.Kind][1], Detail: detail, Scale: scale})
	}
	if st.Kind != Network || st.Trap.IsZero() || now.Sub(st.Trap) >= trapFor {
		return items
	}
	// A network that sends much good mail, such as a large provider's, has some bad users too.
	scale := 1.0
	if enough {
		scale = min(1, 2*high)
	}
	if scale >= 2*minScale {
		items = append(items, verdict.Item{Name: verdict.SpamTrap, Scale: scale,
			Detail: fmt.Sprintf("network %s wrote to a spam trap at %s", st.Name, st.Trap.UTC().Format("2006-01-02 15:04 UTC"))})
	}
	return items
}

// clip bounds a name within a Detail.
func clip(s string) string {
	if len(s) > 120 {
		return s[:120] + "…"
	}
	return s
}
