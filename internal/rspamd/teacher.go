package rspamd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"poczta.example/poczta/internal/envelope"
)

// Defaults of TeacherConfig.
const (
	DefaultLessons    = 64
	DefaultHeld       = 32 << 20
	DefaultShareDaily = 20
	DefaultRest       = time.Minute
	DefaultGrace      = 5 * time.Second
)

// Pupil is who learns; *Client is one.
type Pupil interface {
	Learn(ctx context.Context, r io.Reader, size int64, spam bool) error
}

// TeacherConfig builds a Teacher. Pupil is required; zero means default.
type TeacherConfig struct {
	Pupil   Pupil
	Lessons int   // messages that wait
	Held    int64 // octets of them
	// ShareDaily is how many messages a day one account may teach, as of the classifier: nobody
	// can spoil what others get.
	ShareDaily int
	Rest       time.Duration // after a failure nothing is taught for so long
	Grace      time.Duration // Close waits so long for what is still to be taught
	// Dropped is called for each message that is not taught, with why in a word: "full",
	// "resting", or "daily". It must return at once.
	Dropped func(why string)
	Now     func() time.Time
	Logger  *slog.Logger // nil discards
}

// Teacher hands on to Rspamd what people mark, in the background: whoever marks does not wait for
// it, and that it fails is logged and counted, no more. What waits when the process dies is not
// taught. Safe for concurrent use.
type Teacher struct {
	cfg TeacherConfig

	mu      sync.Mutex
	waiting []lesson
	held    int64
	working bool          // a goroutine teaches
	rested  chan struct{} // closed when something left the queue
	resting time.Time     // until then nothing is taught
	day     int64
	shared  map[envelope.AccountID]int // on that day
	closed  bool
	cancel  context.CancelFunc // ends what is being taught
	done    sync.WaitGroup
}

// lesson is a message that waits to be taught.
type lesson struct {
	octets []byte
	spam   bool
}

// NewTeacher makes a Teacher; it begins with the first message.
func NewTeacher(c TeacherConfig) (*Teacher, error) {
	if c.Pupil == nil {
		return nil, errors.New("rspamd: a teacher needs a pupil")
	}
	if c.Lessons <= 0 {
		c.Lessons = DefaultLessons
	}
	if c.Held <= 0 {
		c.Held = DefaultHeld
	}
	if c.ShareDaily <= 0 {
		c.ShareDaily = DefaultShareDaily
	}
	if c.Rest <= 0 {
		c.Rest = DefaultRest
	}
	if c.Grace <= 0 {
		c.Grace = DefaultGrace
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Teacher{cfg: c, rested: make(chan struct{}), shared: map[envelope.AccountID]int{}}, nil
}

// Teach takes a message that an account has marked, 0 being the whole server, and returns at
// once. It keeps octets, which must not change any more. What finds no room is dropped. A nil
// Teacher teaches nothing.
func (t *Teacher) Teach(account envelope.AccountID, octets []byte, spam bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if why := t.take(account, lesson{octets, spam}); why != "" {
		t.drop(why)
	}
}

// TeachPatiently is Teach that waits for room, as when an archive is learned. The error is that
// of ctx.
func (t *Teacher) TeachPatiently(ctx context.Context, account envelope.AccountID, octets []byte, spam bool) error {
	if t == nil {
		return nil
	}
	for {
		t.mu.Lock()
		why, wait := t.take(account, lesson{octets, spam}), t.rested
		if why != "" && (why != "full" || len(t.waiting) == 0) {
			t.drop(why)
			why = ""
		}
		t.mu.Unlock()
		if why == "" {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take puts a lesson into the queue, or says why not; t.mu is held.
func (t *Teacher) take(account envelope.AccountID, l lesson) (why string) {
	now := t.cfg.Now()
	if day := now.Unix() / 86400; day != t.day {
		t.day = day
		clear(t.shared)
	}
	switch {
	case t.closed || now.Before(t.resting):
		return "resting"
	case account != 0 && t.shared[account] >= t.cfg.ShareDaily:
		return "daily"
	case len(t.waiting) >= t.cfg.Lessons || t.held+int64(len(l.octets)) > t.cfg.Held:
		return "full"
	}
	if account != 0 {
		t.shared[account]++
	}
	t.waiting, t.held = append(t.waiting, l), t.held+int64(len(l.octets))
	if !t.working {
		t.working = true
		var ctx context.Context
		ctx, t.cancel = context.WithCancel(context.Background()) // Close ends it
		t.done.Go(func() { t.work(ctx) })
	}
	return ""
}

// drop counts a message that is not taught; t.mu is held.
func (t *Teacher) drop(why string) {
	if t.cfg.Dropped != nil {
		t.cfg.Dropped(why)
	}
}

// work teaches what waits, and ends when nothing does.
func (t *Teacher) work(ctx context.Context) {
	for {
		l, ok := t.next()
		if !ok {
			return
		}
		err := t.cfg.Pupil.Learn(ctx, bytes.NewReader(l.octets), int64(len(l.octets)), l.spam)
		if err != nil {
			t.failed(err)
		}
	}
}

// next takes the first lesson out of the queue.
func (t *Teacher) next() (lesson, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.working, t.waiting = false, nil
		t.cancel()
		return lesson{}, false
	}
	l := t.waiting[0]
	t.waiting[0] = lesson{}
	t.waiting, t.held = t.waiting[1:], t.held-int64(len(l.octets))
	t.leave()
	return l, true
}

// leave wakes who waits for room; t.mu is held.
func (t *Teacher) leave() {
	close(t.rested)
	t.rested = make(chan struct{})
}

// failed notes that a message was not learned. When Rspamd is not there, what waits is dropped
// and it gets a rest; a message that it merely does not want is nobody's fault.
func (t *Teacher) failed(err error) {
	t.cfg.Logger.Warn("Rspamd did not learn a message", "error", err)
	if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTimeout) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resting = t.cfg.Now().Add(t.cfg.Rest)
	for range t.waiting {
		t.drop("resting")
	}
	t.waiting, t.held = nil, 0
	t.leave()
}

// Close waits TeacherConfig.Grace at most for what is still to be taught, and gives up the rest.
func (t *Teacher) Close() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	t.closed = true
	t.leave()
	cancel := t.cancel
	t.mu.Unlock()
	if cancel == nil {
		return nil
	}
	late := time.AfterFunc(t.cfg.Grace, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for range t.waiting {
			t.drop("resting")
		}
		t.waiting, t.held = nil, 0
		t.cancel()
	})
	defer late.Stop()
	t.done.Wait()
	return nil
}
