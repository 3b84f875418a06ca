package obs

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxSeries bounds the sets of label values of a family, so that a peer can't
// make it grow. What comes later is counted under the value "other".
const maxSeries = 500

// family is one metric name with its labels: one figure for each set of values.
type family struct {
	labels []string
	make   func(values []string) *figure
	mu     sync.RWMutex
	series map[string]*figure
}

// figure is one time series: a counter, a gauge or a histogram. Safe for
// concurrent use.
type figure struct {
	counter   prometheus.Counter
	gauge     prometheus.Gauge
	histogram prometheus.Observer
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
		values = slices.Repeat([]string{"other"}, len(f.labels))
		key = strings.Join(values, "\xff")
	}
	if fig = f.series[key]; fig == nil {
		fig = f.make(values)
		f.series[key] = fig
	}
	return fig
}

// add adds v to a counter, where v is not negative, or to a gauge.
func (f *figure) add(v float64) {
	if f.gauge != nil {
		f.gauge.Add(v)
		return
	}
	f.counter.Add(v)
}

// inc adds one.
func (f *figure) inc() { f.add(1) }

// set sets a gauge.
func (f *figure) set(v float64) { f.gauge.Set(v) }

// observe counts v in a histogram.
func (f *figure) observe(v float64) { f.histogram.Observe(v) }

func newFamily(labels []string, make func(values []string) *figure) *family {
	return &family{labels: labels, make: make, series: map[string]*figure{}}
}

func counters(m *Metrics, name, help string, labels ...string) *family {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(vec)
	return newFamily(labels, func(v []string) *figure { return &figure{counter: vec.WithLabelValues(v...)} })
}

func gauges(m *Metrics, name, help string, labels ...string) *family {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(vec)
	return newFamily(labels, func(v []string) *figure { return &figure{gauge: vec.WithLabelValues(v...)} })
}

func histograms(m *Metrics, name, help string, buckets []float64, labels ...string) *family {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(vec)
	return newFamily(labels, func(v []string) *figure { return &figure{histogram: vec.WithLabelValues(v...)} })
}

func counter(m *Metrics, name, help string) *figure { return counters(m, name, help).with() }

func gauge(m *Metrics, name, help string) *figure { return gauges(m, name, help).with() }

func histogram(m *Metrics, name, help string, buckets []float64) *figure {
	return histograms(m, name, help, buckets).with()
}
