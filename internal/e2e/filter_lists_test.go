package e2e_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// listed are the zones of three DNS lists that work, and of one that answers everything.
func listed() []string {
	return far(
		"2.0.0.127.bl.test. A 127.0.0.2", "9.113.0.203.bl.test. A 127.0.0.2", `9.113.0.203.bl.test. TXT "sends spam"`,
		"2.0.0.127.wl.test. A 127.0.0.2", "10.2.0.192.wl.test. A 127.0.0.2",
		"test.uri.test. A 127.0.0.2", "bad.example.uri.test. A 127.0.0.2",
		"2.0.0.127.all.test. A 127.0.0.2", "1.0.0.127.all.test. A 127.0.0.2", "10.2.0.192.all.test. A 127.0.0.2")
}

// asking is the configuration that asks them.
const asking = `[[spam.list]]
zone = "bl.test"
weight = 5
reason = true

[[spam.list]]
zone = "wl.test"
kind = "allow"

[[spam.list]]
zone = "uri.test"
kind = "uri"
weight = 5

[[spam.list]]
zone = "all.test"
weight = 9`

// TestLists asks DNS lists about hosts and links, leaves a list alone that answers everything, and
// takes mail when a list is silent, or puts it off when that decides about the sender. Then it reads
// docs/operations.md: each figure about filters that people are told to watch is there and has moved.
func TestLists(t *testing.T) {
	t.Parallel()
	n := newNames(t, listed()...)
	n.misbehave([]string{"10.113.0.203.bl.test.", "silent.test."}, nil)
	gone := freeAddr(t) // a hook that is away
	p := peer.Start(t, peer.Config{})
	conf := append(scored(n), hub(p.Listen(t)), asking, fmt.Sprintf("[hook]\nurl = \"http://%s/\"", gone), "[verify]\nunavailable = \"defer\"", "[conduct]\nnew_recipients = 2")
	for i := range conf {
		conf[i] = strings.Replace(conf[i], `timeout = "10s"`, `timeout = "1s"`, 1)
	}
	s := setup(t, conf...)
	s.start()
	s.await("the list that answers everything is left alone", 20*time.Second, func() bool { return s.figures()[`poczta_dnslist_off{zone="all.test"}`] == 1 })

	good := s.fate(s.incoming(written("jan@far.test", ala, "good", "Hello."), "250"))
	if !strings.Contains(good, "dnswl") || strings.Contains(good, "dnsbl") {
		t.Errorf("a host that a list recommends:\n%s", good)
	}
	if got := s.outsider("203.0.113.9", "thief.test").data("boss@far.test", ala, written("boss@far.test", ala, "listed", "Hello."), "550"); !strings.Contains(got, "5.7.1") {
		t.Errorf("a host on a blocklist is answered %q", got)
	}
	if got := s.incoming(written("jan@far.test", ala, "link", "See http://www.bad.example/offer now."), "550"); !strings.Contains(got, "5.7.1") {
		t.Errorf("a link on a blocklist is answered %q", got)
	}
	silent := s.fate(s.outsider("203.0.113.10", "other.test").data("jan@nowhere.test", ala, written("jan@nowhere.test", ala, "silent list", "Hello."), "250"))
	if strings.Contains(silent, "dnsbl") {
		t.Errorf("a host of which the list says nothing:\n%s", silent)
	}
	s.outsider("203.0.113.11", "mx.silent.test").data("jan@silent.test", ala, written("jan@silent.test", ala, "silent domain", "Hello."), "451")
	c := s.submits()
	for i := range 4 {
		to := fmt.Sprintf("x%d@far.test", i)
		c.data(ala, to, written(ala, to, fmt.Sprint("out", i), "Hello."), "250")
	}
	for name, least := range map[string]float64{
		`poczta_dnslist_lookups_total{outcome="listed",zone="bl.test"}`: 1, `poczta_dnslist_lookups_total{outcome="failed",zone="bl.test"}`: 1,
		`poczta_dnslist_lookups_total{outcome="listed",zone="wl.test"}`: 1, `poczta_dnslist_lookups_total{outcome="listed",zone="uri.test"}`: 1,
		`poczta_filter_decisions_total{action="refuse",direction="incoming"}`: 2, `poczta_filter_decisions_total{action="defer",direction="incoming"}`: 1,
		`poczta_filter_evidence_total{name="dnsbl"}`: 1, `poczta_filter_evidence_total{name="uribl"}`: 1, `poczta_filter_evidence_total{name="dnswl"}`: 1,
		`poczta_verify_results_total{method="spf",result="temperror"}`: 1, `poczta_verify_results_total{method="spf",result="pass"}`: 1,
		`poczta_filter_asked_total{filter="hook",outcome="unavailable"}`: 2,
	} {
		s.figure(name, least)
	}
	s.watched()
}

// watched wants the figures about filters that docs/operations.md names to have moved, and to agree
// with each other.
func (s *server) watched() {
	s.t.Helper()
	doc, all := readFile(s.t, "../../docs/operations.md"), s.figures()
	names := map[string]bool{}
	for _, name := range regexp.MustCompile(`poczta_(filter|verify|conduct|dnslist|greylist|classifier|attachment|set_apart|dmarc)[a-z_]*`).FindAllString(doc, -1) {
		names[strings.TrimSuffix(name, "_bucket")] = true
	}
	if len(names) < 6 {
		s.t.Fatalf("docs/operations.md names the figures %v alone", names)
	}
	for name := range names {
		moved := 0.0
		for series, v := range all {
			base, _, _ := strings.Cut(series, "{")
			if base == name || base == name+"_count" {
				moved += v
			}
			if v < 0 || math.IsNaN(v) || strings.HasPrefix(base, name) && strings.HasSuffix(base, "_total") && v != float64(int64(v)) {
				s.t.Errorf("%s is %v", series, v)
			}
			if count, ok := strings.CutSuffix(base, "_count"); ok && count == name {
				labels := strings.TrimSuffix(strings.TrimPrefix(series, base), "}")
				if labels == "" {
					labels = "{"
				} else {
					labels += ","
				}
				if most := all[name+"_bucket"+labels+`le="+Inf"}`]; most != v {
					s.t.Errorf("%s is %v, and all its buckets hold %v", series, v, most)
				}
				if sum := all[name+"_sum"+strings.TrimPrefix(series, base)]; v > 0 && (sum <= 0 || sum > 60*v) {
					s.t.Errorf("%s took %v s in sum", series, sum)
				}
			}
		}
		if moved == 0 {
			s.t.Errorf("docs/operations.md lets people watch %s, which has not moved", name)
		}
	}
}
