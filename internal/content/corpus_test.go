package content_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/verdict"
)

// eachInTar calls f with every file of a .tar.gz.
func eachInTar(t testing.TB, path string, f func(name string, b []byte)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		f(h.Name, b)
	}
}

// received is when the newest Received field says that a message came.
func received(msg []byte) time.Time {
	header, _, _ := message.SplitHeader(msg)
	v, _ := message.Get(header, "Received")
	_, date, ok := strings.Cut(v, ";")
	if !ok {
		return time.Time{}
	}
	t, err := mail.ParseDate(strings.TrimSpace(date))
	if err != nil {
		return time.Time{}
	}
	return t
}

// TestCorpus prints how often each kind of evidence is found in wanted and in unwanted mail of
// the training corpus, and holds that what speaks of spam is found more often there.
func TestCorpus(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("POCZTA_TESTDATA")
	file := filepath.Join(dir, "spam", "spamassassin-train.tar.gz")
	if _, err := os.Stat(file); dir == "" || err != nil {
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	hits := map[verdict.Name][2]int{}
	details := map[string][2]int{}
	var total [2]int
	eachInTar(t, file, func(name string, msg []byte) {
		kind := -1
		switch {
		case strings.Contains(name, "ham/"):
			kind = 0
		case strings.Contains(name, "spam/"):
			kind = 1
		}
		if kind < 0 || len(msg) == 0 {
			return
		}
		total[kind]++
		c, err := content.Read(bytes.NewReader(msg), int64(len(msg)), content.Facts{Now: received(msg)}, content.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range c.Items {
			h := hits[it.Name]
			h[kind]++
			hits[it.Name] = h
			d := details[fmt.Sprintf("%s: %s", it.Name, it.Detail)]
			d[kind]++
			details[fmt.Sprintf("%s: %s", it.Name, it.Detail)] = d
		}
	})
	if total[0] == 0 || total[1] == 0 {
		t.Fatal("no mail")
	}
	share := func(n, of int) float64 { return 100 * float64(n) / float64(of) }
	t.Logf("%d ham, %d spam", total[0], total[1])
	for _, n := range names(verdict.Header, verdict.Content, verdict.Danger) {
		if h := hits[n]; h[0]+h[1] > 0 {
			t.Logf("%-22s ham %5.2f %%  spam %5.2f %%  (%d, %d) weight %v", n, share(h[0], total[0]), share(h[1], total[1]), h[0], h[1], verdict.Rows[n].Weight)
			if verdict.Rows[n].Weight >= 1 && h[0]+h[1] >= 20 && share(h[0], total[0]) > share(h[1], total[1]) {
				t.Errorf("%s is found more often in wanted mail", n)
			}
		}
	}
	if os.Getenv("POCZTA_DETAILS") != "" {
		for d, h := range details {
			if h[0] > 0 {
				t.Logf("%4d %4d %s", h[0], h[1], d)
			}
		}
	}
}

// names are the kinds of evidence of some groups, in an order that stays.
func names(groups ...verdict.Group) (list []verdict.Name) {
	for _, g := range groups {
		var in []string
		for n, r := range verdict.Rows {
			if r.Group == g {
				in = append(in, string(n))
			}
		}
		for _, n := range sorted(in) {
			list = append(list, verdict.Name(n))
		}
	}
	return list
}
