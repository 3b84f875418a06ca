package classifier

import (
	"math"
	"unsafe"
)

// How features become a probability. The figures were chosen by cross-validation on the
// SpamAssassin corpus, coarsely: between half and twice their size little changes.
const (
	// A feature seen n times moves n/(n+strength) of the way from what was expected of it
	// to what was seen (Robinson).
	strength = 0.1
	// The same for a feature in an account's own samples, where what the server knows is
	// what is expected.
	ownStrength = 0.5
	// Features nearer than this to 0.5 say nothing and are left out.
	indifference = 0.1
	// The log odds of n features are divided by √(n+damping): words hang together, so that n
	// of them count as about √n that do not.
	damping = 10
)

// Model counts in how many samples of each class a feature was. Counting is exact and its
// order does not matter; what was added can be removed. Not safe for concurrent use.
type Model struct {
	shift  uint        // slot of a feature: its hash >> shift
	counts [][2]uint16 // ham, spam
	spam   int
	ham    int
}

// maxSamples is how many samples a Model can hold, so that no count overflows.
const maxSamples = math.MaxUint16

// NewModel returns a Model with 2^bits slots of 4 octets, 8 ≤ bits ≤ 24. Features that fall
// into one slot are not told apart.
func NewModel(bits int) *Model {
	bits = min(max(bits, 8), 24)
	return &Model{shift: uint(32 - bits), counts: make([][2]uint16, 1<<bits)}
}

// Octets is the memory it takes.
func (m *Model) Octets() int64 { return int64(len(m.counts)) * int64(unsafe.Sizeof(m.counts[0])) }

// Samples is how many messages were learned of each class.
func (m *Model) Samples() (spam, ham int) { return m.spam, m.ham }

// Add learns a sample; more than 65,535 of them are ignored.
func (m *Model) Add(f Features, spam bool) {
	if m.spam+m.ham < maxSamples {
		m.change(f, spam, 1)
	}
}

// Remove forgets a sample that was added.
func (m *Model) Remove(f Features, spam bool) { m.change(f, spam, -1) }

func (m *Model) change(f Features, spam bool, by int) {
	class := 0
	if spam {
		class = 1
		m.spam += by
	} else {
		m.ham += by
	}
	for s := range f.slots(m.shift) {
		m.counts[s][class] += uint16(by)
	}
}

// slots yields the slot of each feature, once.
func (f Features) slots(shift uint) func(func(uint32) bool) {
	return func(yield func(uint32) bool) {
		last := uint32(math.MaxUint32)
		for _, h := range f.hashes {
			if s := h >> shift; s != last {
				last = s
				if !yield(s) {
					return
				}
			}
		}
	}
}

// feature is how probable spam is when a feature is seen, if all messages that were seen
// with it and were expected with it are taken together, and how many were seen.
func (m *Model) feature(h uint32, expected, strength float64) (p float64, seen int) {
	c := m.counts[h>>m.shift]
	seen = int(c[0]) + int(c[1])
	if seen == 0 {
		return expected, 0
	}
	inSpam, inHam := float64(c[1])/float64(max(m.spam, 1)), float64(c[0])/float64(max(m.ham, 1))
	n := float64(seen)
	return (strength*expected + n*inSpam/(inSpam+inHam)) / (strength + n), seen
}

// Judge returns how probable it is that the message is spam, were spam and ham as frequent,
// and how many of its features were seen before. own is an account's model, or nil: what it
// counted replaces what m expects, the more the oftener it saw a feature.
func (m *Model) Judge(own *Model, f Features) (probability float64, known int) {
	sum, n := 0.0, 0
	for _, h := range f.hashes {
		p, seen := m.weigh(own, h)
		if seen > 0 {
			known++
		}
		if p > 0.5-indifference && p < 0.5+indifference {
			continue
		}
		sum += math.Log(p / (1 - p))
		n++
	}
	return 1 / (1 + math.Exp(-sum/math.Sqrt(float64(n+damping)))), known
}

// weigh is the probability that a feature stands for, and how often it was seen.
func (m *Model) weigh(own *Model, h uint32) (p float64, seen int) {
	p, seen = m.feature(h, 0.5, strength)
	if own != nil {
		var n int
		p, n = own.feature(h, p, ownStrength)
		seen += n
	}
	return p, seen
}
