package obs

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics holds the figures, in a registry of its own. Safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	sessions      *family // service
	sessionsTotal *family // service
	refused       *family // service, reason
	handshakes    *family // service, version
	commands      *family // service, verb, reply
	logins        *family // protocol, mechanism, result
	hashing       *figure //
	messages      *family // service, reply
	messageOctets *family // service
	dataSeconds   *family // service
	accepted      *figure //
	acceptOctets  *figure //
	acceptSeconds *figure //
	acceptErrors  *figure //
	retrieved     *family // unit: messages, octets
	deleted       *family // result
	groupRecords  *figure //
	groupSeconds  *figure //
	stagedOctets  *figure //
	segmentFails  *figure //
	mergedOctets  *figure //
	listing       *family // from
	listingOctets *figure //
	retention     *family // step
	queued        *family // step
	signed        *family // result
	keysMoved     *family // stage
	reloads       *family // result
	certExpiry    *family // name
	dbSeconds     *family // engine, kind
	out           *outboundFigures
	filter        *filterFigures
	backup        *backupFigures
}

// latency are the buckets of durable steps and transactions, in seconds.
var latency = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}

// NewMetrics makes the figures, with those of the Go runtime and the process.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.sessions = gauges(m, "poczta_sessions", "Sessions open now.", "service")
	m.sessionsTotal = counters(m, "poczta_sessions_total", "Sessions begun.", "service")
	m.refused = counters(m, "poczta_connections_refused_total", "Connections refused before a session.", "service", "reason")
	m.handshakes = counters(m, "poczta_tls_handshakes_total", "TLS handshakes done.", "service", "version")
	m.commands = counters(m, "poczta_commands_total", "Commands answered.", "service", "verb", "reply")
	m.logins = counters(m, "poczta_logins_total", "Logins tried.", "protocol", "mechanism", "result")
	m.hashing = histogram(m, "poczta_password_hash_seconds", "Time to derive a password's keys.", latency)
	m.messages = counters(m, "poczta_messages_received_total", "Mail data answered.", "service", "reply")
	m.messageOctets = counters(m, "poczta_messages_received_octets_total", "Octets of mail data.", "service")
	m.dataSeconds = histograms(m, "poczta_data_seconds", "From the end of mail data's command to its reply.", latency, "service")
	m.accepted = counter(m, "poczta_accepted_messages_total", "Messages made durable.")
	m.acceptOctets = counter(m, "poczta_accepted_octets_total", "Octets made durable.")
	m.acceptSeconds = histogram(m, "poczta_accept_seconds", "The durable step, Accept.", latency)
	m.acceptErrors = counter(m, "poczta_accept_errors_total", "Accepts that stored nothing.")
	m.retrieved = counters(m, "poczta_pop3_retrieved_total", "What RETR and TOP sent.", "unit")
	m.deleted = counters(m, "poczta_pop3_deleted_total", "Messages deleted at QUIT.", "result")
	m.groupRecords = histogram(m, "poczta_body_group_records", "Records that shared one fsync.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256})
	m.groupSeconds = histogram(m, "poczta_body_group_seconds", "Write and fsync of a group of records.", latency)
	m.stagedOctets = gauge(m, "poczta_body_staged_octets", "Memory of messages on their way in.")
	m.segmentFails = counter(m, "poczta_body_failed_segments_total", "Segments given up after a failed write or fsync.")
	m.mergedOctets = counter(m, "poczta_body_merged_octets_total", "Octets given back to the disk by merging.")
	m.listing = counters(m, "poczta_listings_total", "Mailbox listings opened.", "from")
	m.listingOctets = gauge(m, "poczta_listing_octets", "Memory of cached listings.")
	m.retention = counters(m, "poczta_retention_messages_total", "Messages removed into retention, and purged from it.", "step")
	m.queued = counters(m, "poczta_queue_recipients_total", "Recipients that entered and left the queue.", "step")
	m.signed = counters(m, "poczta_dkim_messages_total", "Submitted messages that were to be signed.", "result")
	m.keysMoved = counters(m, "poczta_dkim_keys_total", "DKIM keys that came to a stage.", "stage")
	m.reloads = counters(m, "poczta_reloads_total", "Reloads of the configuration.", "result")
	m.certExpiry = gauges(m, "poczta_certificate_expiry_seconds", "When a certificate ends, in seconds since 1970.", "name")
	m.out = m.outbound()
	m.filter = m.filters()
	m.backup = m.backups()
	m.dbSeconds = histograms(m, "poczta_db_seconds", "Database transactions.", latency, "engine", "kind")
	return m
}

// Reloaded counts a reload of the configuration.
func (m *Metrics) Reloaded(err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.reloads.with(result).inc()
}

// Certificate tells when a certificate ends.
func (m *Metrics) Certificate(name string, notAfter time.Time) {
	m.certExpiry.with(name).set(float64(notAfter.Unix()))
}

// healthTimeout bounds a health check.
const healthTimeout = 5 * time.Second

// Handler serves /metrics and /healthz. The latter answers 200 "ok" while health
// returns nil, and 503 with the error's text otherwise.
func (m *Metrics) Handler(health func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
		defer cancel()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := health(ctx); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, err.Error()+"\n")
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	return mux
}
