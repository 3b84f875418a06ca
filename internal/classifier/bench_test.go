package classifier_test

import (
	"crypto/sha256"
	"testing"

	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/classifier/classifiertest"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
)

// small are the corpus' messages of at most 4 KiB, read.
func small(b *testing.B) (all []classifiertest.Message, read []*content.Content, labels []classifiertest.Label) {
	b.Helper()
	for _, m := range corpus(b) {
		if len(m.Raw) > 4<<10 {
			continue
		}
		ct, err := m.Read()
		if err != nil {
			b.Fatal(err)
		}
		all, read = append(all, m), append(read, ct)
		labels = append(labels, classifiertest.Label{Name: m.Name, Features: classifier.FeaturesOf(ct), Spam: m.Spam})
	}
	return all, read, labels
}

func BenchmarkRead(b *testing.B) {
	all, _, _ := small(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := all[i%len(all)].Read(); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkFeatures(b *testing.B) {
	_, read, _ := small(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		classifier.FeaturesOf(read[i%len(read)])
		i++
	}
}

// BenchmarkJudge is features and judgement, with an account's model beside the common one.
func BenchmarkJudge(b *testing.B) {
	d := dbtest.SQLite(b)
	if err := db.Migrate(b.Context(), d, []db.Component{classifier.Schema}); err != nil {
		b.Fatal(err)
	}
	n, err := classifier.New(classifier.Config{DB: d, ShareDaily: -1})
	if err != nil {
		b.Fatal(err)
	}
	_, read, labels := small(b)
	learnAll(b, n, classifier.Common, labels)
	learnAll(b, n, 1, labels[:1000])
	if err := n.Load(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := n.Judge(b.Context(), 1, classifier.FeaturesOf(read[i%len(read)])); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func learnAll(b *testing.B, n *classifier.Classifier, account envelope.AccountID, labels []classifiertest.Label) {
	b.Helper()
	_, err := n.LearnMany(b.Context(), account, func(yield func(classifier.Sample) bool) {
		for _, l := range labels {
			if !yield(classifier.Sample{Features: l.Features, Hash: sha256.Sum256([]byte(l.Name)), Spam: l.Spam}) {
				return
			}
		}
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLearn is features and durable learning in bulk, a message an iteration.
func BenchmarkLearn(b *testing.B) {
	d := dbtest.SQLite(b)
	if err := db.Migrate(b.Context(), d, []db.Component{classifier.Schema}); err != nil {
		b.Fatal(err)
	}
	n, err := classifier.New(classifier.Config{DB: d})
	if err != nil {
		b.Fatal(err)
	}
	if err := n.Load(b.Context()); err != nil {
		b.Fatal(err)
	}
	_, read, labels := small(b)
	b.ReportAllocs()
	b.ResetTimer()
	_, err = n.LearnMany(b.Context(), classifier.Common, func(yield func(classifier.Sample) bool) {
		for i := range b.N {
			j := i % len(read)
			hash := [32]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}
			if !yield(classifier.Sample{Features: classifier.FeaturesOf(read[j]), Hash: hash, Spam: labels[j].Spam}) {
				return
			}
		}
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
}
