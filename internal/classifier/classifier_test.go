package classifier_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/verdict"
)

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func each(t *testing.T, fn func(t *testing.T, d db.Database)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, []db.Component{classifier.Schema}, fn)
}

// node makes a Classifier with a small model, loaded.
func node(t *testing.T, d db.Database, c *clock, change func(*classifier.Config)) *classifier.Classifier {
	t.Helper()
	cfg := classifier.Config{DB: d, Now: c.Now, Bits: 17, CommonMin: 5, AccountMin: 5}
	if change != nil {
		change(&cfg)
	}
	n, err := classifier.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func words(s string) classifier.Features {
	return classifier.FeaturesOf(&content.Content{Text: s})
}

// letter is a message about spam's or ham's subjects, different for each n.
func letter(spam bool, n int) (classifier.Features, [32]byte) {
	about := []string{"invoice", "meeting", "tomorrow", "draft", "review", "lunch", "project", "thanks", "attached", "notes", "train", "family"}
	if spam {
		about = []string{"winner", "lottery", "pills", "cheap", "viagra", "casino", "million", "dollars", "click", "offer", "guarantee", "mortgage"}
	}
	r := rand.New(rand.NewPCG(uint64(n), 7))
	r.Shuffle(len(about), func(i, j int) { about[i], about[j] = about[j], about[i] })
	s := fmt.Sprintf("%s the and of number%d", strings.Join(about[:9], " "), n)
	return words(s), sha256.Sum256(fmt.Append(nil, spam, n))
}

// teach learns n messages of each class.
func teach(t *testing.T, c *classifier.Classifier, account envelope.AccountID, n int, wrong bool) {
	t.Helper()
	for i := range n {
		for _, spam := range []bool{true, false} {
			f, hash := letter(spam, i)
			if err := c.Learn(t.Context(), account, f, hash, spam != wrong); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func judge(t *testing.T, c *classifier.Classifier, account envelope.AccountID, f classifier.Features) classifier.Judgement {
	t.Helper()
	j, err := c.Judge(t.Context(), account, f)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func counts(t *testing.T, c *classifier.Classifier, account envelope.AccountID) [2]int {
	t.Helper()
	s, err := c.Stats(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	return [2]int{s.Spam, s.Ham}
}

func TestLearnAndJudge(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		c := newClock()
		n := node(t, d, c, nil)
		spam, _ := letter(true, 1000)
		ham, _ := letter(false, 1000)
		if j := judge(t, n, classifier.Common, spam); j.Trained || j.Items() != nil || j.Answer() != classifier.Unsure {
			t.Errorf("untrained: got %+v with %v, want unsure", j, j.Items())
		}
		teach(t, n, classifier.Common, 30, false)
		for _, account := range []envelope.AccountID{classifier.Common, 7} {
			items := judge(t, n, account, spam).Items()
			if len(items) != 1 || items[0].Name != verdict.ClassSpam || items[0].Scale < 0.6 || items[0].Scale > 1 || items[0].Detail == "" || len(items[0].Detail) > verdict.MaxDetailOctets {
				t.Errorf("account %d, spam: got %+v", account, items)
			}
			items = judge(t, n, account, ham).Items()
			if len(items) != 1 || items[0].Name != verdict.ClassHam || items[0].Scale < 0.6 || items[0].Scale > 1 {
				t.Errorf("account %d, ham: got %+v", account, items)
			}
		}
		if j := judge(t, n, classifier.Common, words("words that nobody knows")); j.Answer() != classifier.Unsure || j.Items() != nil {
			t.Errorf("unknown words: got %+v, want unsure", j)
		}
		if diff := cmp.Diff([2]int{30, 30}, counts(t, n, classifier.Common)); diff != "" {
			t.Errorf("samples (-want +got):\n%s", diff)
		}
		// Another node and a later start know the same.
		if other := node(t, d, c, nil); !other.CommonModel().Equal(n.CommonModel()) {
			t.Error("another node counts otherwise")
		}
	})
}

// TestJudgeLazily: a message is read for words only where somebody has taught enough.
func TestJudgeLazily(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		n := node(t, d, newClock(), func(c *classifier.Config) { c.ShareDaily = -1 })
		spam, _ := letter(true, 1000)
		for _, step := range []struct {
			teach   envelope.AccountID // before it; negative: nobody
			account envelope.AccountID
			read    bool
		}{{-1, classifier.Common, false}, {-1, 7, false}, {7, 7, true}, {-1, 8, false}, {-1, classifier.Common, false}, {classifier.Common, 8, true}} {
			if step.teach >= 0 {
				teach(t, n, step.teach, 30, false)
			}
			read := false
			got, err := n.JudgeLazily(t.Context(), step.account, func() classifier.Features {
				read = true
				return spam
			})
			if err != nil {
				t.Fatal(err)
			}
			want := judge(t, n, step.account, spam)
			if read != step.read || got.Trained != read || got.Answer() != want.Answer() || read && got != want {
				t.Errorf("%+v: read %v, %+v, want %+v", step, read, got, want)
			}
		}
	})
}

func TestMarkedAnew(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		c := newClock()
		n, other := node(t, d, c, nil), node(t, d, c, nil)
		teach(t, n, classifier.Common, 10, false)
		if err := other.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		f, hash := letter(true, 3)
		steps := []struct {
			name string
			do   func() error
			want [2]int
		}{
			{"the same again", func() error { return n.Learn(t.Context(), classifier.Common, f, hash, true) }, [2]int{10, 10}},
			{"as ham", func() error { return n.Learn(t.Context(), classifier.Common, f, hash, false) }, [2]int{9, 11}},
			{"as spam", func() error { return n.Learn(t.Context(), classifier.Common, f, hash, true) }, [2]int{10, 10}},
			{"forgotten", func() error { _, err := n.Forget(t.Context(), classifier.Common, hash); return err }, [2]int{9, 10}},
		}
		for _, s := range steps {
			if err := s.do(); err != nil {
				t.Fatal(err)
			}
			if err := other.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := counts(t, n, classifier.Common); got != s.want {
				t.Errorf("%s: %v samples, want %v", s.name, got, s.want)
			}
			if spam, ham := other.CommonModel().Samples(); [2]int{spam, ham} != s.want || !other.CommonModel().Equal(n.CommonModel()) {
				t.Errorf("%s: another node counts %d and %d, want %v, or counts otherwise", s.name, spam, ham, s.want)
			}
		}
		if found, err := n.Forget(t.Context(), classifier.Common, hash); found || err != nil {
			t.Errorf("forget what is forgotten: got %v, %v; want false", found, err)
		}
	})
}

// TestNodesAgree does random things on several nodes, which read at random times, and holds
// their models against one that counts anew.
func TestNodesAgree(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		c := newClock()
		small := func(cfg *classifier.Config) { cfg.CommonSamples, cfg.AccountSamples = 150, 60 }
		nodes := []*classifier.Classifier{node(t, d, c, small), node(t, d, c, small), node(t, d, c, small)}
		r := rand.New(rand.NewPCG(3, 4))
		for step := range 600 {
			n := nodes[r.IntN(len(nodes))]
			i := r.IntN(400)
			f, hash := letter(i%2 == 0, i)
			account := envelope.AccountID(r.IntN(3))
			var err error
			switch k := r.IntN(20); {
			case k < 14:
				err = n.Learn(t.Context(), account, f, hash, r.IntN(8) != 0 == (i%2 == 0))
			case k < 16:
				_, err = n.Forget(t.Context(), account, hash)
			case k < 18:
				err = n.Refresh(t.Context())
			case k == 18:
				c.add(20 * time.Hour) // judges ask again, old removals are dropped
				err = n.Tidy(t.Context())
			case step%4 == 0:
				err = n.ForgetAccount(t.Context(), 1+envelope.AccountID(r.IntN(2)))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		c.add(time.Hour)
		fresh := node(t, d, c, small)
		for i, n := range nodes {
			if err := n.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			for account := range envelope.AccountID(3) {
				got, want := n.CommonModel(), fresh.CommonModel()
				if account != classifier.Common {
					var errs [2]error
					got, errs[0] = n.OwnModel(t.Context(), account)
					want, errs[1] = fresh.OwnModel(t.Context(), account)
					if errs != [2]error{} {
						t.Fatal(errs)
					}
				}
				if (got == nil) != (want == nil) || got != nil && !got.Equal(want) {
					t.Fatalf("node %d counts otherwise for account %d: %v, want %v", i, account, describe(got), describe(want))
				}
				if want == nil {
					continue // too few
				}
				spam, ham := want.Samples()
				if stored := counts(t, n, account); stored != [2]int{spam, ham} {
					t.Errorf("account %d: %v samples by its row, %d and %d counted", account, stored, spam, ham)
				}
			}
		}
	})
}

func describe(m *classifier.Model) string {
	if m == nil {
		return "none"
	}
	spam, ham := m.Samples()
	return fmt.Sprintf("%d spam and %d ham in %d octets", spam, ham, m.Octets())
}

func TestOldestLeave(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		n := node(t, d, newClock(), func(c *classifier.Config) { c.CommonSamples = 20 })
		teach(t, n, classifier.Common, 8, false)
		for i := range 40 { // a flood of one class leaves the other as it is
			f, hash := letter(true, 100+i)
			if err := n.Learn(t.Context(), classifier.Common, f, hash, true); err != nil {
				t.Fatal(err)
			}
		}
		if got := counts(t, n, classifier.Common); got != [2]int{12, 8} {
			t.Errorf("%v samples, want 12 spam and 8 ham", got)
		}
		spam, ham := n.CommonModel().Samples()
		if spam != 12 || ham != 8 {
			t.Errorf("model of %d and %d samples, want 12 and 8", spam, ham)
		}
		for i, want := range map[int]bool{0: false, 127: false, 128: true, 139: true} {
			_, hash := letter(true, i)
			if got, err := n.Forget(t.Context(), classifier.Common, hash); err != nil || got != want {
				t.Errorf("spam %d was there: %v, want %v (%v)", i, got, want, err)
			}
		}
	})
}

// TestShare holds what an account can teach the whole server.
func TestShare(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		c := newClock()
		n := node(t, d, c, func(c *classifier.Config) { c.ShareDaily = 4 })
		teach(t, n, 7, 10, true)
		if got := counts(t, n, classifier.Common); got != [2]int{2, 2} {
			t.Errorf("the server learned %v of an account's marks, want 4 in all", got)
		}
		if got := counts(t, n, 7); got != [2]int{10, 10} {
			t.Errorf("the account has %v samples, want 10 and 10", got)
		}
		// Another account can't change what the first shared, an operator can, and after that
		// nobody else.
		f, hash := letter(true, 0) // shared as ham
		learn := func(account envelope.AccountID, spam bool, want [2]int) {
			t.Helper()
			if err := n.Learn(t.Context(), account, f, hash, spam); err != nil {
				t.Fatal(err)
			}
			if got := counts(t, n, classifier.Common); got != want {
				t.Errorf("account %d, spam %v: the server has %v samples, want %v", account, spam, got, want)
			}
		}
		learn(8, true, [2]int{2, 2})
		learn(classifier.Common, true, [2]int{3, 1})
		c.add(24 * time.Hour) // the account may share again
		learn(7, true, [2]int{3, 1})
		learn(7, false, [2]int{3, 1})
		if stats, err := n.Stats(t.Context(), classifier.Common); err != nil || stats.Shared != 3 {
			t.Errorf("%d shared samples (%v), want 3", stats.Shared, err)
		}
		_, hash = letter(false, 0) // shared as spam by 7
		if _, err := n.Forget(t.Context(), 8, hash); err != nil {
			t.Fatal(err)
		}
		if got := counts(t, n, classifier.Common); got != [2]int{3, 1} {
			t.Errorf("another account forgot it: %v samples, want 3 and 1", got)
		}
		if found, err := n.Forget(t.Context(), 7, hash); err != nil || !found {
			t.Fatal(found, err)
		}
		if got := counts(t, n, classifier.Common); got != [2]int{2, 1} {
			t.Errorf("the account forgot it: %v samples, want 2 and 1", got)
		}
	})
}

// TestOwn holds that an account's own samples outweigh the server's for that account alone,
// once there are enough, and that the server's count where the account says nothing.
func TestOwn(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		n := node(t, d, newClock(), func(c *classifier.Config) { c.ShareDaily = -1 })
		teach(t, n, classifier.Common, 60, false)
		news := func(i int) (classifier.Features, [32]byte) {
			return words(fmt.Sprintf("weekly lottery casino newsletter of the gambling law department number%d dollars offer", i)), sha256.Sum256(fmt.Append(nil, "news", i))
		}
		spam, _ := letter(true, 1000)
		f, _ := news(1000)
		if j := judge(t, n, 7, f); j.Answer() != classifier.Spam || j.Own {
			t.Errorf("the server's answer: got %+v, want spam", j)
		}
		for i := range 4 {
			g, hash := news(i)
			if err := n.Learn(t.Context(), 7, g, hash, false); err != nil {
				t.Fatal(err)
			}
		}
		if j := judge(t, n, 7, f); j.Own {
			t.Errorf("four samples: got %+v, want the server's answer", j)
		}
		for i := range 20 {
			g, hash := news(i)
			if err := n.Learn(t.Context(), 7, g, hash, false); err != nil {
				t.Fatal(err)
			}
			g, hash = letter(true, 200+i)
			if err := n.Learn(t.Context(), 7, g, hash, true); err != nil {
				t.Fatal(err)
			}
		}
		j := judge(t, n, 7, f)
		if items := j.Items(); j.Answer() != classifier.Ham || !j.Own || len(items) != 1 || items[0].Name != verdict.ClassAccountHam {
			t.Errorf("the account wants it: got %+v with %v, want ham", j, items)
		}
		if items := judge(t, n, 7, spam).Items(); len(items) != 1 || items[0].Name != verdict.ClassAccountSpam {
			t.Errorf("other spam for the account: got %v", items)
		}
		ham, _ := letter(false, 1000) // of which the account has taught nothing
		if j := judge(t, n, 7, ham); j.Answer() != classifier.Ham {
			t.Errorf("what the server wants: got %+v, want ham", j)
		}
		if j := judge(t, n, 8, f); j.Answer() != classifier.Spam {
			t.Errorf("another account: got %+v, want spam", j)
		}
		if err := n.ForgetAccount(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		if j := judge(t, n, 7, f); j.Answer() != classifier.Spam || j.Own {
			t.Errorf("the account is forgotten: got %+v, want the server's answer", j)
		}
	})
}

// TestCheckpoint holds that a start reads the checkpoint and what came after it.
func TestCheckpoint(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		c := newClock()
		n := node(t, d, c, nil)
		bulk := func(from, count int) {
			t.Helper()
			reports := 0
			done, err := n.LearnMany(t.Context(), classifier.Common, func(yield func(classifier.Sample) bool) {
				for i := from; i < from+count; i++ {
					if f, hash := letter(i%2 == 0, i); !yield(classifier.Sample{Features: f, Hash: hash, Spam: i%2 == 0}) {
						return
					}
				}
			}, func(int) { reports++ })
			if err != nil || done != count || reports < count/200 {
				t.Fatalf("learned %d with %d reports (%v), want %d", done, reports, err, count)
			}
		}
		rows := func() (parts, generations int64) {
			t.Helper()
			err := d.View(t.Context(), func(tx db.Tx) error {
				return tx.QueryRow(`SELECT COUNT(*), COUNT(DISTINCT generation) FROM classifier_checkpoint`).Scan(&parts, &generations)
			})
			if err != nil {
				t.Fatal(err)
			}
			return parts, generations
		}
		tidy := func() {
			t.Helper()
			if err := n.Tidy(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		bulk(0, 100)
		tidy()
		if parts, _ := rows(); parts != 0 {
			t.Errorf("%d parts of a checkpoint of 100 samples, want none", parts)
		}
		bulk(100, classifier.CheckpointEvery)
		tidy()
		if parts, generations := rows(); parts != 2 || generations != 1 {
			t.Errorf("%d parts of %d checkpoints, want 2 of one", parts, generations)
		}
		f, hash := letter(true, 0)
		if err := n.Learn(t.Context(), classifier.Common, f, hash, false); err != nil { // in the checkpoint as spam
			t.Fatal(err)
		}
		bulk(5000, 50)
		execute(t, d, `UPDATE classifier_sample SET features = ? WHERE learned <= ? AND hash <> ? AND seq < 2000`, []byte{99}, db.Micros(c.Now()), hash[:])
		if other := node(t, d, c, nil); !other.CommonModel().Equal(n.CommonModel()) {
			t.Error("a start from the checkpoint counts otherwise")
		}
		c.add(2 * time.Hour)
		bulk(6000, classifier.CheckpointEvery)
		tidy()
		if parts, generations := rows(); parts != 2 || generations != 1 {
			t.Errorf("%d parts of %d checkpoints, want 2 of one", parts, generations)
		}
		// What can't be used is left alone.
		execute(t, d, `UPDATE classifier_checkpoint SET counts = ? WHERE part = 1`, []byte{0x80})
		want := node(t, d, c, func(c *classifier.Config) { c.Bits = 18 })
		spam, ham := want.CommonModel().Samples()
		if gotSpam, gotHam := node(t, d, c, nil).CommonModel().Samples(); gotSpam != spam || gotHam != ham || spam == 0 {
			t.Errorf("broken checkpoint: %d and %d samples, want %d and %d", gotSpam, gotHam, spam, ham)
		}
	})
}

func execute(t *testing.T, d db.Database, query string, args ...any) {
	t.Helper()
	err := d.Update(t.Context(), func(tx db.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestManyRemovals holds that a node which missed more removals than it reads at a time
// counts right, also where samples were learned and removed meanwhile.
func TestManyRemovals(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		c := newClock()
		n, other := node(t, d, c, nil), node(t, d, c, nil)
		change := func(from, to int, do func(int) error) {
			t.Helper()
			for i := from; i < to; i++ {
				if err := do(i); err != nil {
					t.Fatal(err)
				}
			}
		}
		learn := func(i int) error {
			f, hash := letter(true, i)
			return n.Learn(t.Context(), classifier.Common, f, hash, true)
		}
		forget := func(i int) error {
			_, hash := letter(true, i)
			_, err := n.Forget(t.Context(), classifier.Common, hash)
			return err
		}
		change(0, 200, learn)
		if err := other.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		change(0, 180, forget)
		change(300, 450, learn)
		change(320, 440, forget)
		if err := other.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if spam, _ := other.CommonModel().Samples(); spam != 50 || !other.CommonModel().Equal(n.CommonModel()) {
			t.Errorf("the other node counts %d, want 50, or counts otherwise", spam)
		}
	})
}

// TestAwayForLong holds that a node that missed removals, whose notes are dropped, counts anew.
func TestAwayForLong(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		c := newClock()
		n, away := node(t, d, c, nil), node(t, d, c, nil)
		teach(t, n, classifier.Common, 10, false)
		if err := away.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, hash := letter(true, 3)
		if _, err := n.Forget(t.Context(), classifier.Common, hash); err != nil {
			t.Fatal(err)
		}
		c.add(8 * 24 * time.Hour)
		if err := n.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		var left int64
		err := d.View(t.Context(), func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM classifier_gone`).Scan(&left) })
		if err != nil || left != 0 {
			t.Errorf("%d removals left (%v), want none", left, err)
		}
		if err := away.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if spam, ham := away.CommonModel().Samples(); spam != 9 || ham != 10 || !away.CommonModel().Equal(n.CommonModel()) {
			t.Errorf("the node that was away counts %d and %d, want 9 and 10", spam, ham)
		}
	})
}

func TestMemoryOfAccounts(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		const budget = 200 << 10
		n := node(t, d, newClock(), func(c *classifier.Config) { c.Memory, c.ShareDaily = budget, -1 })
		spam, _ := letter(true, 1000)
		for account := range envelope.AccountID(6) {
			teach(t, n, account+1, 6, false)
		}
		for range 2 {
			for account := range envelope.AccountID(6) {
				if j := judge(t, n, account+1, spam); !j.Own {
					t.Errorf("account %d: its samples do not count", account+1)
				}
				if cached, octets := n.Cached(); octets > budget || cached == 0 {
					t.Errorf("%d accounts take %d octets, want %d at most", cached, octets, budget)
				}
			}
		}
		for account := range envelope.AccountID(1000) {
			judge(t, n, account+1000, spam)
		}
		if cached, octets := n.Cached(); octets > budget || cached < 300 {
			t.Errorf("%d accounts take %d octets, want %d at most", cached, octets, budget)
		}
	})
}

// TestTogether learns and judges from many goroutines while Run polls; the race detector and
// the models' agreement are the judges.
func TestTogether(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		loaded := make(chan int, 1)
		cfg := classifier.Config{DB: d, Bits: 17, CommonMin: 5, AccountMin: 5, Poll: time.Millisecond, Memory: 200 << 10, CommonSamples: 60, ShareDaily: 1000}
		cfg.Hooks.Loaded = func(samples int, _ time.Duration) { loaded <- samples }
		n, err := classifier.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		ran := make(chan error, 1)
		go func() { ran <- n.Run(ctx) }()
		<-loaded
		for g := range 4 {
			wg.Go(func() {
				account := envelope.AccountID(g % 3)
				for i := range 40 {
					f, hash := letter(i%2 == 0, g*1000+i)
					if err := n.Learn(ctx, account, f, hash, i%2 == 0); err != nil {
						t.Error(err)
						return
					}
					if _, err := n.Judge(ctx, envelope.AccountID(i%4), f); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := n.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if fresh := node(t, d, newClock(), nil); !fresh.CommonModel().Equal(n.CommonModel()) {
			t.Error("what was counted on the way differs from a fresh count")
		}
	})
}

func TestExplain(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{classifier.Schema}); err != nil {
		t.Fatal(err)
	}
	n := node(t, d, newClock(), nil)
	ct := &content.Content{Subject: "lottery winner", Text: "tomorrow you are a winner of million dollars in our casino, cheap pills too"}
	if _, got, err := n.Explain(t.Context(), 1, ct, 10); err != nil || len(got) != 0 {
		t.Errorf("untrained: got %v, %v", got, err)
	}
	teach(t, n, classifier.Common, 30, false)
	j, got, err := n.Explain(t.Context(), 1, ct, 100)
	if err != nil || j.Answer() != classifier.Spam {
		t.Errorf("got %+v, %v; want spam", j, err)
	}
	byText := map[string]float64{}
	for _, w := range got {
		byText[w.Text] = w.Probability
	}
	if byText["winner"] < 0.9 || byText["tomorrow"] > 0.1 || byText["tomorrow"] == 0 {
		t.Errorf("got %v, want winner for spam and tomorrow against", slices.Sorted(maps.Keys(byText)))
	}
	if _, got, err = n.Explain(t.Context(), 1, ct, 3); err != nil || len(got) != 3 {
		t.Errorf("got %v, %v; want three words", got, err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := classifier.New(classifier.Config{CommonSamples: 70_000, Bits: 40, Poll: -1}); err == nil {
		t.Fatal("a wrong configuration passed")
	} else {
		for _, want := range []string{"DB", "70000", "40 bits", "negative"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not speak of %s", err, want)
			}
		}
	}
}

func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{classifier.Schema}); err != nil {
		t.Fatal(err)
	}
	n := node(t, d, newClock(), nil)
	f, hash := letter(true, 1)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Learn(t.Context(), 1, f, hash, true); err == nil {
		t.Error("learned without a database")
	}
	if _, err := n.Judge(t.Context(), 1, f); err == nil {
		t.Error("judged for an account without a database")
	}
	if _, err := n.Judge(t.Context(), classifier.Common, f); err != nil {
		t.Errorf("the common model needs no database: %v", err)
	}
}
