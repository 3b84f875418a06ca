package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/classifier/classifiertest"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/db"
)

// classifierRows are the classifier's accuracy on messages it has not learned, and its speed.
func classifierRows() []row {
	same := func(all []classifiertest.Message) []classifiertest.Message { return all }
	const path = ", without Received, Date, Message-ID, List-* and X-"
	return []row{
		{"classifier, ham kept, ten folds", "≥ 99.0 %", foldsRow(same, classifiertest.Accuracy.HamKept)},
		{"classifier, spam caught, ten folds", "≥ 97 %", foldsRow(same, classifiertest.Accuracy.SpamCaught)},
		{"classifier, ham kept, ten folds" + path, "≥ 99.0 %", foldsRow(classifiertest.WithoutPath, classifiertest.Accuracy.HamKept)},
		{"classifier, spam caught, ten folds" + path, "≥ 97 %", foldsRow(classifiertest.WithoutPath, classifiertest.Accuracy.SpamCaught)},
		{"classifier, learning in bulk, durable, one caller", "≥ 2,000", learnRow},
		{"classifier, judging messages up to 4 KiB, one core", "≥ 5,000", judgeRow},
		{"classifier, 50,000 samples read at a start", "≤ 0.5 s", startClassifier},
	}
}

// corpus reads the training corpus.
func corpus() ([]classifiertest.Message, error) {
	all, err := classifiertest.Open()
	if errors.Is(err, classifiertest.ErrAbsent) {
		return nil, missing{err}
	}
	return all, err
}

// missing is an error for which a row is left out.
type missing struct{ error }

// Is makes it an errMissing.
func (missing) Is(target error) bool { return target == errMissing }

// foldsRow is a cross-validation; each run deals the folds anew.
func foldsRow(change func([]classifiertest.Message) []classifiertest.Message, figure func(classifiertest.Accuracy) float64) func(context.Context, *bench) (result, error) {
	return func(_ context.Context, b *bench) (result, error) {
		res := result{unit: "%"}
		all, err := corpus()
		if err != nil {
			return res, err
		}
		labels, err := classifiertest.Features(change(all))
		if err != nil {
			return res, err
		}
		for run := range b.runs {
			a := classifiertest.Validate(labels, 10, uint64(run))
			res.ours = append(res.ours, figure(a))
			if run == 0 {
				res.note = a.String()
			}
		}
		return res, nil
	}
}

// classifierStore is a classifier on an empty SQLite database.
func classifierStore(ctx context.Context, b *bench, name string) (*classifier.Classifier, db.Database, error) {
	d, err := db.OpenSQLite(ctx, db.SQLiteConfig{Path: filepath.Join(b.dir, name)})
	if err != nil {
		return nil, nil, err
	}
	b.onStop(func() { _ = d.Close() })
	if err := db.Migrate(ctx, d, []db.Component{classifier.Schema}); err != nil {
		return nil, nil, err
	}
	c, err := classifier.New(classifier.Config{DB: d})
	if err != nil {
		return nil, nil, err
	}
	return c, d, c.Load(ctx)
}

// letters are the corpus' messages up to 4 KiB, read.
func letters() ([]*content.Content, []bool, error) {
	all, err := corpus()
	if err != nil {
		return nil, nil, err
	}
	var read []*content.Content
	var spam []bool
	for _, m := range all {
		if len(m.Raw) > 4096 {
			continue
		}
		ct, err := m.Read()
		if err != nil {
			return nil, nil, err
		}
		read, spam = append(read, ct), append(spam, m.Spam)
	}
	return read, spam, nil
}

// samples yields n samples of letters with hashes of their own.
func samples(read []*content.Content, spam []bool, run, n int) func(yield func(classifier.Sample) bool) {
	return func(yield func(classifier.Sample) bool) {
		for i := range n {
			j := i % len(read)
			if !yield(classifier.Sample{Features: classifier.FeaturesOf(read[j]), Hash: sha256.Sum256(fmt.Append(nil, run, i)), Spam: spam[j]}) {
				return
			}
		}
	}
}

// learnRow is the time from what messages say to their durable samples.
func learnRow(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "messages/s", note: "features and samples; in chunks of 128"}
	read, spam, err := letters()
	if err != nil {
		return res, err
	}
	for run := range b.runs {
		c, _, err := classifierStore(ctx, b, fmt.Sprintf("learn%d.db", run))
		if err != nil {
			return res, err
		}
		start := time.Now()
		n, err := c.LearnMany(ctx, classifier.Common, samples(read, spam, run, 10_000), nil)
		if err != nil {
			return res, err
		}
		res.ours = append(res.ours, float64(n)/time.Since(start).Seconds())
	}
	return res, nil
}

// judgeRow is the time from what a message says to its probability, and with reading it.
func judgeRow(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "messages/s"}
	all, err := corpus()
	if err != nil {
		return res, err
	}
	read, spam, err := letters()
	if err != nil {
		return res, err
	}
	c, _, err := classifierStore(ctx, b, "judge.db")
	if err != nil {
		return res, err
	}
	if _, err := c.LearnMany(ctx, classifier.Common, samples(read, spam, 0, len(read)), nil); err != nil {
		return res, err
	}
	for range b.runs {
		start, n := time.Now(), 0
		for ; time.Since(start) < b.seconds; n++ {
			if _, err := c.Judge(ctx, classifier.Common, c.Features(read[n%len(read)])); err != nil {
				return res, err
			}
		}
		res.ours = append(res.ours, float64(n)/time.Since(start).Seconds())
	}
	start, n := time.Now(), 0
	for _, m := range all {
		if len(m.Raw) > 4096 {
			continue
		}
		ct, err := content.Read(bytes.NewReader(m.Raw), int64(len(m.Raw)), content.Facts{}, content.Limits{})
		if err != nil {
			return res, err
		}
		if _, err := c.Judge(ctx, classifier.Common, c.Features(ct)); err != nil {
			return res, err
		}
		n++
	}
	res.note = fmt.Sprintf("%.0f messages/s with reading their MIME parts and text", float64(n)/time.Since(start).Seconds())
	return res, nil
}

// startClassifier is how long a start takes to know 50,000 samples, by the checkpoint.
func startClassifier(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "s", less: true}
	read, spam, err := letters()
	if err != nil {
		return res, err
	}
	c, d, err := classifierStore(ctx, b, "start.db")
	if err != nil {
		return res, err
	}
	if _, err := c.LearnMany(ctx, classifier.Common, samples(read, spam, 0, 50_000), nil); err != nil {
		return res, err
	}
	load := func() (float64, error) {
		fresh, err := classifier.New(classifier.Config{DB: d})
		if err != nil {
			return 0, err
		}
		start := time.Now()
		err = fresh.Load(ctx)
		return time.Since(start).Seconds(), err
	}
	whole, err := load()
	if err != nil {
		return res, err
	}
	res.note = fmt.Sprintf("%.2f s without a checkpoint; beside the start, not before ready", whole)
	if err := c.Tidy(ctx); err != nil {
		return res, err
	}
	for range b.runs {
		t, err := load()
		if err != nil {
			return res, err
		}
		res.ours = append(res.ours, t)
	}
	return res, nil
}
