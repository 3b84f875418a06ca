package spf_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/spf"
)

// words is a string or a list of them.
type words []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (w *words) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*w = words{n.Value}
		return nil
	}
	return n.Decode((*[]string)(w))
}

type scenario struct {
	Description string
	Tests       map[string]struct {
		Helo        string
		Host        string
		Mailfrom    string
		Result      words
		Explanation *string
	}
	Zonedata map[string][]yaml.Node
}

// foreign returns a file of the foreign test data, and skips where there is none.
func foreign(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(os.Getenv("POCZTA_TESTDATA"), name)
	if _, err := os.Stat(path); os.Getenv("POCZTA_TESTDATA") == "" || err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no foreign test data: set POCZTA_TESTDATA (%v)", err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return path
}

// suite reads the test suite of RFC 7208.
func suite(t testing.TB) []scenario {
	t.Helper()
	f, err := os.Open(foreign(t, "spf/pyspf/rfc7208-tests.yml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []scenario
	for dec := yaml.NewDecoder(f); ; {
		var s scenario
		err := dec.Decode(&s)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
}

// world is the DNS of a scenario.
type world struct {
	records map[string]map[resolver.Type][]resolver.Record // by name in lower case
	silent  map[string]bool                                // lookups time out, unless there are records
	asked   []string
}

// newWorld reads zonedata: records of type SPF stand for TXT where a name has no TXT
// of its own, as the suite's preface has it.
func newWorld(t testing.TB, zone map[string][]yaml.Node) *world {
	t.Helper()
	w := &world{records: map[string]map[resolver.Type][]resolver.Record{}, silent: map[string]bool{}}
	for name, nodes := range zone {
		name = strings.ToLower(name)
		have := map[resolver.Type][]resolver.Record{}
		w.records[name] = have
		var old []resolver.Record
		hasTXT := false
		for _, n := range nodes {
			if n.Value == "TIMEOUT" {
				w.silent[name] = true
				continue
			}
			var fields map[string]yaml.Node
			if err := n.Decode(&fields); err != nil {
				t.Fatal(name, err)
			}
			for kind, value := range fields {
				typ, rec, ok := suiteRecord(t, kind, value)
				switch {
				case kind == "SPF":
					old = append(old, rec)
				case kind == "TXT":
					hasTXT = true
					fallthrough
				default:
					if ok {
						have[typ] = append(have[typ], rec)
					}
				}
			}
		}
		if !hasTXT {
			have[resolver.TXT] = old
		}
	}
	return w
}

func suiteRecord(t testing.TB, kind string, value yaml.Node) (resolver.Type, resolver.Record, bool) {
	t.Helper()
	var list words
	if err := value.Decode(&list); err != nil {
		t.Fatal(err)
	}
	host := func(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }
	switch kind {
	case "A":
		return resolver.A, resolver.Record{Addr: netip.MustParseAddr(list[0])}, true
	case "AAAA":
		return resolver.AAAA, resolver.Record{Addr: netip.MustParseAddr(list[0])}, true
	case "MX":
		return resolver.MX, resolver.Record{Host: host(list[1])}, true
	case "PTR":
		return resolver.PTR, resolver.Record{Host: host(list[0])}, true
	case "CNAME":
		return resolver.CNAME, resolver.Record{Host: host(list[0])}, true
	case "TXT", "SPF":
		return resolver.TXT, resolver.Record{Text: strings.Join(list, "")}, value.Value != "NONE"
	}
	t.Fatalf("unknown record type %s", kind)
	return 0, resolver.Record{}, false
}

// Lookup implements resolver.Resolver.
func (w *world) Lookup(_ context.Context, name string, typ resolver.Type) (resolver.Answer, error) {
	name = strings.ToLower(unescape(name))
	w.asked = append(w.asked, name)
	for range 8 {
		have := w.records[name]
		switch {
		case len(have[typ]) > 0:
			return resolver.Answer{Name: name, Records: have[typ]}, nil
		case w.silent[name]:
			return resolver.Answer{}, fmt.Errorf("look up %s: %w", name, resolver.ErrTemporary)
		case len(have[resolver.CNAME]) > 0:
			name = have[resolver.CNAME][0].Host
		default:
			return resolver.Answer{}, &resolver.Absent{Name: name, NoData: have != nil}
		}
	}
	return resolver.Answer{}, fmt.Errorf("look up %s: %w: too many CNAMEs", name, resolver.ErrTemporary)
}

// unescape undoes the backslashes before visible octets.
func unescape(s string) string { return strings.ReplaceAll(s, `\`, "") }

// TestSuite runs the suite of RFC 7208, all 203 cases of it; there is no deviation.
func TestSuite(t *testing.T) {
	t.Parallel()
	cases, explained := 0, 0
	for _, s := range suite(t) {
		for name, c := range s.Tests {
			cases++
			w := newWorld(t, s.Zonedata)
			checker := newChecker(t, spf.Config{Resolver: w})
			got := checker.Check(t.Context(), spf.Request{IP: netip.MustParseAddr(c.Host), Helo: c.Helo, Sender: c.Mailfrom})
			if !slices.Contains(c.Result, got.Status.String()) {
				t.Errorf("%s: got %v (%v, %v), want %v", name, got.Status, got.Mechanism, got.Err, c.Result)
			}
			if len(w.asked) > 11*11+1 || got.Lookups > 10 || got.Voids > 3 {
				t.Errorf("%s: %d questions, %d look-ups, %d voids", name, len(w.asked), got.Lookups, got.Voids)
			}
			if c.Explanation == nil {
				continue
			}
			explained++
			want := *c.Explanation
			if want == "DEFAULT" {
				want = "" // ours
			}
			if got.Explanation != want {
				t.Errorf("%s: got explanation %q, want %q", name, got.Explanation, want)
			}
		}
	}
	if cases != 203 || explained != 22 {
		t.Errorf("%d cases with %d explanations ran; the suite has 203 with 22", cases, explained)
	}
}

func newChecker(t testing.TB, c spf.Config) *spf.Checker {
	t.Helper()
	checker, err := spf.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return checker
}
