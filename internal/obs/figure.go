package obs

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Figures of the three kinds that Prometheus knows, written in its text format,
// version 0.0.4. A family holds one figure for each set of label values; their
// number is bounded, so a peer can't make it grow.

// maxSeries bounds the sets of label values of a family. What comes later is
// counted under the value "other".
const maxSeries = 500

// kind is a family's type in the text format.
type kind string

const (
	counterKind   kind = "counter"
	gaugeKind     kind = "gauge"
	histogramKind kind = "histogram"
)

// family is one metric name with its labels.
type family struct {
	name, help string
	kind       kind
	labels     []string
	buckets    []float64
	mu         sync.RWMutex
	series     map[string]*figure
}

// figure is one time series. Safe for concurrent use.
type figure struct {
	bits    atomic.Uint64 // float64: the value, or a histogram's sum
	count   atomic.Uint64
	bounds  []float64
	buckets []atomic.Uint64
}

// with returns the figure of the label values.
func (f *family) with(values ...string) *figure {
	key := strings.Join(values, "\xff")
	f.mu.RLock()
	fig := f.series[key]
	f.mu.RUnlock()
	if fig != nil {
		return fig
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.series) >= maxSeries {
		key = strings.Join(slices.Repeat([]string{"other"}, len(f.labels)), "\xff")
	}
	if fig = f.series[key]; fig == nil {
		fig = &figure{bounds: f.buckets, buckets: make([]atomic.Uint64, len(f.buckets))}
		f.series[key] = fig
	}
	return fig
}

// add adds v to a counter or gauge.
func (f *figure) add(v float64) {
	for {
		old := f.bits.Load()
		if f.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// inc adds one.
func (f *figure) inc() { f.add(1) }

// set sets a gauge.
func (f *figure) set(v float64) { f.bits.Store(math.Float64bits(v)) }

// observe counts v in a histogram.
func (f *figure) observe(v float64) {
	if i, _ := slices.BinarySearch(f.bounds, v); i < len(f.bounds) {
		f.buckets[i].Add(1)
	}
	f.count.Add(1)
	f.add(v)
}

func (f *figure) value() float64 { return math.Float64frombits(f.bits.Load()) }

// registry is a list of families and of functions that write figures when asked.
type registry struct {
	families []*family
	readers  []func(write func(name, help string, k kind, v float64))
}

func (r *registry) family(k kind, buckets []float64, name, help string, labels ...string) *family {
	f := &family{name: name, help: help, kind: k, labels: labels, buckets: buckets, series: map[string]*figure{}}
	r.families = append(r.families, f)
	return f
}

// WriteTo writes everything in the text format.
func (r *registry) WriteTo(w io.Writer) (int64, error) {
	b := bufio.NewWriter(w)
	for _, f := range r.families {
		f.write(b)
	}
	for _, read := range r.readers {
		read(func(name, help string, k kind, v float64) {
			head(b, name, help, k)
			fmt.Fprintf(b, "%s %s\n", name, number(v))
		})
	}
	return 0, b.Flush()
}

func head(b *bufio.Writer, name, help string, k kind) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, k)
}

func (f *family) write(b *bufio.Writer) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if len(f.series) == 0 {
		return
	}
	head(b, f.name, f.help, f.kind)
	keys := make([]string, 0, len(f.series))
	for k := range f.series {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, key := range keys {
		fig := f.series[key]
		var labels []string
		if len(f.labels) > 0 {
			for i, v := range strings.Split(key, "\xff") {
				labels = append(labels, f.labels[i]+`="`+escape(v)+`"`)
			}
		}
		if f.kind == histogramKind {
			f.writeHistogram(b, fig, labels)
			continue
		}
		fmt.Fprintf(b, "%s%s %s\n", f.name, braces(labels), number(fig.value()))
	}
}

func (f *family) writeHistogram(b *bufio.Writer, fig *figure, labels []string) {
	// The count is read first: a figure observed meanwhile may be in a bucket
	// already, and a bucket above the count would be refused by readers.
	count, sum, below := fig.count.Load(), fig.value(), uint64(0)
	for i, bound := range fig.bounds {
		below = min(below+fig.buckets[i].Load(), count)
		fmt.Fprintf(b, "%s_bucket%s %d\n", f.name, braces(append(slices.Clip(labels), `le="`+number(bound)+`"`)), below)
	}
	fmt.Fprintf(b, "%s_bucket%s %d\n", f.name, braces(append(slices.Clip(labels), `le="+Inf"`)), count)
	fmt.Fprintf(b, "%s_sum%s %s\n%s_count%s %d\n", f.name, braces(labels), number(sum), f.name, braces(labels), count)
}

func braces(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	return "{" + strings.Join(labels, ",") + "}"
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// escape writes a label value as the format wants it.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(s)
}
