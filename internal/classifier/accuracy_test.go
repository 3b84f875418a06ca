package classifier_test

import (
	"errors"
	"sync"
	"testing"

	"poczta.example/poczta/internal/classifier/classifiertest"
)

// corpus is the training corpus; the test is skipped where it is not.
func corpus(tb testing.TB) []classifiertest.Message {
	tb.Helper()
	all, err := classifiertest.Open()
	if errors.Is(err, classifiertest.ErrAbsent) {
		tb.Skipf("skipped: %v", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// whole are the features of the corpus, which take the time of these tests.
var whole = sync.OnceValues(func() ([]classifiertest.Label, error) {
	all, err := classifiertest.Open()
	if err != nil {
		return nil, err
	}
	return classifiertest.Features(all)
})

// TestAccuracy holds what the classifier makes of messages that it has not learned: with all
// header fields, and without those that tell how a message came.
func TestAccuracy(t *testing.T) {
	t.Parallel()
	all := corpus(t)
	if len(all) < 3000 {
		t.Fatalf("%d messages in the corpus, want thousands", len(all))
	}
	for name, messages := range map[string][]classifiertest.Message{"whole": all, "without path": classifiertest.WithoutPath(all)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			labels, err := whole()
			if name != "whole" {
				labels, err = classifiertest.Features(messages)
			}
			if err != nil {
				t.Fatal(err)
			}
			a := classifiertest.Validate(labels, 10, 0)
			t.Log(a)
			if a.HamKept() < 99.0 || a.SpamCaught() < 97 {
				t.Errorf("got %s; want 99.0 %% and 97 %%", a)
			}
		})
	}
}

// TestFewSamples holds that little learning leads to few wrong answers, rather to none.
func TestFewSamples(t *testing.T) {
	t.Parallel()
	corpus(t)
	labels, err := whole()
	if err != nil {
		t.Fatal(err)
	}
	for each, want := range map[int][2]float64{50: {92, 75}, 200: {97, 88}, 1000: {98.5, 97}} {
		for seed := range uint64(3) {
			a := classifiertest.Few(labels, each, seed)
			t.Logf("%d of each class: %s", each, a)
			if a.HamKept() < want[0] || a.SpamCaught() < want[1] {
				t.Errorf("%d of each class, seed %d: got %s; want %v %%", each, seed, a, want)
			}
		}
	}
}
