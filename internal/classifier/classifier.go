// Package classifier learns from messages that people call spam or wanted, and says of others
// which they are like: for the whole server, and for each account that has taught enough.
//
// A message is reduced to Features, hashes of its words among them. What was learned is a
// table of samples; a Model is their sum, so every node that reads the table counts the same,
// and what was learned wrongly or long ago is taken out exactly. Models live in memory: one
// for all, those of accounts in a cache of bounded size.
//
// There are three answers: spam, ham, and unsure. Judgement.Items has evidence only of the
// first two.
package classifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/verdict"
)

// Common is the account of what the whole server learned.
const Common envelope.AccountID = 0

// Config builds a Classifier; zero fields are the defaults. DB is required.
type Config struct {
	DB db.Database

	// CommonSamples and AccountSamples are how many samples are kept; with more, the oldest of
	// the class that has more leave. 50,000 (at most 65,000) and 2,000.
	CommonSamples, AccountSamples int
	// CommonMin and AccountMin are how many samples of each class are needed before a model
	// counts. 50 and 10.
	CommonMin, AccountMin int
	// ShareDaily is how many marks of an account the whole server learns from in a day (UTC),
	// so that no account can spoil what others get; negative: none. 20.
	ShareDaily int
	// Memory is what the cached models of accounts may take, in octets. 32 MiB.
	Memory int64
	// Bits is the size of the common model: 2^Bits slots of 4 octets. 22, that is 16 MiB.
	Bits int
	// Poll is how often what other nodes learned is read. 5 s.
	Poll time.Duration

	Hooks  Hooks
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // default time.Now
}

// Hooks tell of what happens; nil ones are not called. They must be quick and safe for
// concurrent use.
type Hooks struct {
	Judged  func(answer Answer, took time.Duration)
	Learned func(spam bool, samples int)
	Loaded  func(samples int, took time.Duration) // the common model, at start or anew
}

// keepGone is how long removals are kept for nodes that have not seen them; a node that was
// away for longer counts anew.
const keepGone = 7 * 24 * time.Hour

func (c *Config) setDefaults() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.CommonSamples, 50_000)
	set(&c.AccountSamples, 2_000)
	set(&c.CommonMin, 50)
	set(&c.AccountMin, 10)
	set(&c.ShareDaily, 20)
	set(&c.Bits, 22)
	if c.Memory == 0 {
		c.Memory = 32 << 20
	}
	if c.Poll == 0 {
		c.Poll = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Validate reports all that is wrong with a Config.
func (c Config) Validate() error {
	var errs []error
	if c.DB == nil {
		errs = append(errs, errors.New("DB is required"))
	}
	if c.CommonSamples < 0 || c.CommonSamples > 65_000 || c.AccountSamples < 0 || c.AccountSamples > 65_000 {
		errs = append(errs, fmt.Errorf("%d common and %d account samples: use 1 to 65000", c.CommonSamples, c.AccountSamples))
	}
	if c.Bits != 0 && (c.Bits < 8 || c.Bits > 24) {
		errs = append(errs, fmt.Errorf("%d bits: use 8 to 24", c.Bits))
	}
	if c.CommonMin < 0 || c.AccountMin < 0 || c.Memory < 0 || c.Poll < 0 {
		errs = append(errs, errors.New("minimum, memory and poll must not be negative"))
	}
	return errors.Join(errs...)
}

// Classifier judges and learns. Safe for concurrent use, by several nodes on one database.
type Classifier struct {
	cfg Config

	// following admits one reader of the samples of all; it alone changes common, under mu
	// too, so that it may read common without mu. It comes before mu.
	following sync.Mutex
	mu        sync.RWMutex
	common    tally
	ready     bool // common has all samples there were when it was last read
	unsaved   int  // samples added or removed since the checkpoint

	owns owns
}

// New returns a Classifier that has read nothing yet: until Load or Run has, it is unsure of
// everything. No I/O.
func New(cfg Config) (*Classifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("classifier: %w", err)
	}
	cfg.setDefaults()
	c := &Classifier{cfg: cfg}
	c.common.model = NewModel(cfg.Bits)
	c.owns = newOwns(cfg.Memory)
	return c, nil
}

// Answer is what a message is like.
type Answer uint8

// The answers.
const (
	Unsure Answer = iota
	Ham
	Spam
)

// String is the answer's word.
func (a Answer) String() string { return [...]string{"unsure", "ham", "spam"}[a] }

// From which probability on an answer is sure enough to count.
const (
	spamFrom = 0.8
	hamTo    = 0.2
)

// Judgement is what is thought of a message.
type Judgement struct {
	Probability float64 // of spam, were spam and ham as frequent; 0.5 when nothing is known
	Known       int     // features that were seen before
	Features    int     // of the message
	Trained     bool    // enough was learned to answer
	Own         bool    // the account's own samples took part
	Spam, Ham   int     // samples it rests on
}

// Answer is the judgement in a word.
func (j Judgement) Answer() Answer {
	switch {
	case !j.Trained:
		return Unsure
	case j.Probability >= spamFrom:
		return Spam
	case j.Probability <= hamTo:
		return Ham
	}
	return Unsure
}

// Items is the evidence: one item when the answer is sure, or none. Its scale grows from 0.6
// to 1 with the probability.
func (j Judgement) Items() []verdict.Item {
	name, p := verdict.ClassSpam, j.Probability
	switch a := j.Answer(); {
	case a == Unsure:
		return nil
	case a == Spam && j.Own:
		name = verdict.ClassAccountSpam
	case a == Ham && j.Own:
		name, p = verdict.ClassAccountHam, 1-p
	case a == Ham:
		name, p = verdict.ClassHam, 1-p
	}
	return []verdict.Item{{Name: name, Scale: 2*p - 1, Detail: fmt.Sprintf("%.1f %% sure; %d of %d features known from %d spam and %d wanted messages",
		100*p, j.Known, j.Features, j.Spam, j.Ham)}}
}

// Judge says what a message is like, for an account or, of account Common, for the whole
// server. What an account has taught counts when there are Config.AccountMin samples of each
// class; where it says nothing, what the server knows does.
//
// It blocks only to read what an account has taught when that is not in memory, or was not
// looked for within Config.Poll. An error is the database's.
func (c *Classifier) Judge(ctx context.Context, account envelope.AccountID, f Features) (Judgement, error) {
	start := c.cfg.Now()
	j := Judgement{Features: f.Len(), Probability: 0.5}
	err := c.withModels(ctx, account, func(common, own *Model) {
		if common == nil && own == nil {
			return
		}
		j.Trained, j.Own = true, own != nil
		if common == nil {
			common = nothing
		}
		j.Probability, j.Known = common.Judge(own, f)
		if own != nil {
			j.Spam, j.Ham = own.Samples()
		}
		spam, ham := common.Samples()
		j.Spam, j.Ham = j.Spam+spam, j.Ham+ham
	})
	if err != nil {
		return j, err
	}
	if c.cfg.Hooks.Judged != nil {
		c.cfg.Hooks.Judged(j.Answer(), c.cfg.Now().Sub(start))
	}
	return j, nil
}

// JudgeLazily is Judge for features that are read only if enough was learned to answer: where nobody
// has taught anything, a message costs nothing.
func (c *Classifier) JudgeLazily(ctx context.Context, account envelope.AccountID, features func() Features) (Judgement, error) {
	trained := false
	if err := c.withModels(ctx, account, func(common, own *Model) { trained = common != nil || own != nil }); err != nil {
		return Judgement{Probability: 0.5}, err
	}
	if !trained {
		return c.Judge(ctx, account, Features{})
	}
	return c.Judge(ctx, account, features())
}

// nothing is a model that has learned nothing; nobody adds to it.
var nothing = NewModel(8)

// withModels calls fn with the models that count for an account; nil for one that does not.
func (c *Classifier) withModels(ctx context.Context, account envelope.AccountID, fn func(common, own *Model)) error {
	var m *Model
	if account != Common {
		own, err := c.own(ctx, account)
		if err != nil {
			return err
		}
		own.mu.Lock()
		defer own.mu.Unlock()
		if m = own.tally.model; !enough(m, c.cfg.AccountMin) {
			m = nil
		}
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	common := c.common.model
	if !c.ready || !enough(common, c.cfg.CommonMin) {
		common = nil
	}
	fn(common, m)
	return nil
}

// enough reports a model with a number of samples of each class.
func enough(m *Model, least int) bool { return m != nil && min(m.spam, m.ham) >= max(least, 1) }
