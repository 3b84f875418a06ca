package tlsreport

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/tlsrpt"
)

// ServeHTTP takes a report by POST (RFC 8460 §5.4), of at most 2 MiB packed and 8 MiB unpacked. Nothing
// proves who sends it. At most four are read at once, and ReceiverConfig.Posts of a network; the
// server that calls it limits how long each takes.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "TLS reports come by POST.", http.StatusMethodNotAllowed)
		return
	}
	switch media, _, _ := mime.ParseMediaType(q.Header.Get("Content-Type")); media {
	case tlsrpt.MediaGzip, tlsrpt.MediaJSON, "application/json", "application/gzip":
	default:
		http.Error(w, "A TLS report is "+tlsrpt.MediaGzip+" or "+tlsrpt.MediaJSON+".", http.StatusUnsupportedMediaType)
		return
	}
	if q.ContentLength > maxFile {
		http.Error(w, "The report is too large.", http.StatusRequestEntityTooLarge)
		return
	}
	if wait := r.patience(q.RemoteAddr); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
		http.Error(w, "Too many reports from your network.", http.StatusTooManyRequests)
		return
	}
	select {
	case r.posts <- struct{}{}:
		defer func() { <-r.posts }()
	default:
		w.Header().Set("Retry-After", "600")
		http.Error(w, "Busy; try again later.", http.StatusServiceUnavailable)
		return
	}
	status, text := r.post(q)
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	http.Error(w, text, status)
}

// patience is how long a host must wait until it may bring another report; 0 takes this one.
func (r *Receiver) patience(remote string) time.Duration {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil { // no socket of the network
		return 0
	}
	now, network := r.cfg.Now(), limit.Networks{}.Of(peer.Addr())
	if r.peers.Allow(network, now) {
		return 0
	}
	return max(time.Second, r.peers.Wait(network, now))
}

// post reads and keeps a report, and says what to answer.
func (r *Receiver) post(q *http.Request) (int, string) {
	var rep tlsrpt.Report
	err := feedback.Unpack(q.Body, feedback.Limits{Packed: maxFile, Unpacked: maxJSON}, func(in io.Reader) (err error) {
		rep, err = tlsrpt.ReadReport(in)
		return err
	})
	switch {
	case errors.Is(err, feedback.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, "The report is too large."
	case err != nil:
		return http.StatusBadRequest, "This is no TLS report."
	}
	switch err := r.keep(q.Context(), rep, address.Domain{}); {
	case err == nil, errors.Is(err, ErrDuplicate):
		return http.StatusNoContent, ""
	case errors.Is(err, ErrNotOurs):
		return http.StatusForbidden, "The report is about domains of others."
	case errors.Is(err, ErrTooMany):
		return http.StatusTooManyRequests, "Too many reports today."
	default:
		r.cfg.Logger.Warn("TLS report could not be kept", "error", err)
		return http.StatusServiceUnavailable, "Try again later."
	}
}
