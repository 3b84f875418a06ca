package classifier

import (
	"iter"
	"math"
	"slices"
	"unsafe"
)

// How features become a probability. The figures were chosen on the SpamAssassin corpus by
// the log loss of ten-fold cross-validation, of learning 50 and 200 messages of each class,
// and of judging mail of kinds that were not learned. Between half and twice their size
// little changes.
const (
	// A feature seen n times moves n/(n+strength) of the way from what was expected of it
	// to what was seen (Robinson).
	strength = 0.5
	// The same for a feature in an account's own samples, where what the server knows is
	// what is expected.
	ownStrength = 0.5
	// Features nearer than this to 0.5 say nothing and are left out.
	indifference = 0.15
	// The log odds of n features count slope/(n+damping)^power of their sum: words hang
	// together, so that more of them say less each, and a few say little.
	slope, damping, power = 3, 30, 0.8
	// With n samples of the rarer class, the log odds are n/(n+novice) of that.
	novice = 50
)

// Model counts in how many samples of each class a feature was. Counting is exact and its
// order does not matter; what was added can be removed. Not safe for concurrent use.
type Model struct {
	shift  uint        // slot of a feature: its hash >> shift
	counts [][2]uint16 // ham, spam
	spam   int
	ham    int
	sums   [2]int64 // of all counts
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
		m.sums[class] += int64(by)
	}
}

// slots yields the slot of each feature, once.
func (f Features) slots(shift uint) iter.Seq[uint32] {
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

// sizes are what counts are compared with, ham's and spam's: the geometric mean of messages
// and of features. By messages alone, words that mean nothing would speak against the class
// with the longer messages; by features alone, against that with the shorter ones.
func (m *Model) sizes() (s [2]float64) {
	for class, n := range [2]int{m.ham, m.spam} {
		s[class] = math.Sqrt(float64(max(n, 1)) * float64(max(m.sums[class], 1)))
	}
	return s
}

// feature is how probable spam is when a feature is seen, between what was expected and what
// was counted, and how often it was seen.
func feature(c [2]uint16, sizes [2]float64, expected, strength float64) (p float64, seen int) {
	seen = int(c[0]) + int(c[1])
	if seen == 0 {
		return expected, 0
	}
	inHam, inSpam := float64(c[0])*sizes[1], float64(c[1])*sizes[0] // both times both sizes, as only their ratio counts
	all, n := inHam+inSpam, float64(seen)
	return (strength*expected*all + n*inSpam) / ((strength + n) * all), seen
}

// Judge returns how probable it is that the message is spam, were spam and ham as frequent,
// and how many of its features were seen before. own is an account's model, or nil: what it
// counted replaces what m expects, the more the oftener it saw a feature.
func (m *Model) Judge(own *Model, f Features) (probability float64, known int) {
	sum, n := 0.0, 0
	spam, ham := 1.0, 1.0 // products of probabilities whose logarithm is not in the sum yet
	for _, weights := range m.weigh(own, f) {
		for _, w := range weights {
			if w.seen > 0 {
				known++
			}
			if w.p > 0.5-indifference && w.p < 0.5+indifference {
				continue
			}
			spam, ham = spam*w.p, ham*(1-w.p)
			n++
			if min(spam, ham) < leastProduct {
				sum += math.Log(spam) - math.Log(ham)
				spam, ham = 1, 1
			}
		}
	}
	sum += math.Log(spam) - math.Log(ham)
	samples := float64(min(m.spam, m.ham))
	if own != nil {
		samples += float64(min(own.spam, own.ham))
	}
	odds := sum * slope / math.Pow(float64(n+damping), power) * samples / (samples + novice)
	return 1 / (1 + math.Exp(-odds)), known
}

// weight is the probability that a feature stands for, and how often it was seen.
type weight struct {
	p    float64
	seen int
}

// read copies the counts of features.
func (m *Model) read(dst [][2]uint16, hashes []uint32) {
	for i, h := range hashes {
		dst[i] = m.counts[h>>m.shift]
	}
}

// leastProduct is from where on a product's logarithm is taken: far from where precision ends, as no
// factor is below 1e-12.
const leastProduct = 1e-200

// together is how many features are weighed at a time: the memory that holds their counts is waited
// for once and not for each.
const together = 64

// weigh yields features, some at a time, with their weights, which hold until the next.
func (m *Model) weigh(own *Model, f Features) iter.Seq2[[]uint32, []weight] {
	return func(yield func([]uint32, []weight) bool) {
		sizes, ownSizes := m.sizes(), [2]float64{}
		if own != nil {
			ownSizes = own.sizes()
		}
		var counts, ownCounts [together][2]uint16
		var weights [together]weight
		for hashes := range slices.Chunk(f.hashes, together) {
			m.read(counts[:], hashes)
			if own != nil {
				own.read(ownCounts[:], hashes)
			}
			for i := range hashes {
				p, seen := feature(counts[i], sizes, 0.5, strength)
				if own != nil {
					var n int
					p, n = feature(ownCounts[i], ownSizes, p, ownStrength)
					seen += n
				}
				weights[i] = weight{p, seen}
			}
			if !yield(hashes, weights[:len(hashes)]) {
				return
			}
		}
	}
}
