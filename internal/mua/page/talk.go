package page

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/oauth"
)

// Bounds of what is tried beside the requests.
const (
	maxTalks = 8 // at one time; the oldest goes
	talkLife = 20 * time.Minute
	maxSaid  = 400              // lines
	talkWait = 20 * time.Second // that a request waits for news
)

// errLeftAlone ends a talk whose person went away.
var errLeftAlone = errors.New("the person went away")

// talk is an attempt that takes long and asks: an account is set up, or a login tried. The person
// follows it on a page of its own. It is the Person of its Keeper.
type talk struct {
	id      string
	wish    talkWish
	cancel  context.CancelCauseFunc
	ctx     context.Context
	began   time.Time
	allowed map[string]bool // questions that were answered with yes, also in the attempt before

	mu       sync.Mutex
	changed  chan struct{} // closed with each change
	version  int
	said     []string
	question *question
	link     string // where the person logs in
	code     oauth.Code
	ended    bool
	err      error
}

// talkWish is what was asked for, so that it can be tried again.
type talkWish struct {
	kind    string // add, server, password, login, certificate
	account envelope.AccountID
	title   string
	new     NewAccount
	run     func(ctx context.Context, t *talk) error
	// accept is the attempt with a certificate that was refused; nil where none may be accepted.
	accept  func(v *visit, u *Untrusted) talkWish
	back    string // the page that it began on
	done    string // the page behind success
	success string // what is said there
}

// question waits for an answer.
type question struct {
	text   string
	secret bool // a password is wanted, else yes or no
	answer chan string
}

// change lets followers know of what f does.
func (t *talk) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	t.version++
	close(t.changed)
	t.changed = make(chan struct{})
}

// Say implements Person.
func (t *talk) Say(text string) {
	t.change(func() {
		for line := range strings.Lines(text) {
			if line = strings.TrimRight(line, "\r\n"); line != "" && len(t.said) < maxSaid {
				t.said = append(t.said, line)
			}
		}
	})
}

// Confirm implements Person. What was agreed to once is not asked again.
func (t *talk) Confirm(text string) (bool, error) {
	if t.allowed[text] {
		return true, nil
	}
	answer, err := t.ask(text, false)
	if answer == "yes" {
		t.allowed[text] = true
	}
	return answer == "yes", err
}

// Password implements Person.
func (t *talk) Password(prompt string) (string, error) {
	if t.wish.new.Password != "" {
		return t.wish.new.Password, nil
	}
	return t.ask(strings.TrimSuffix(strings.TrimSpace(prompt), ":"), true)
}

// Browse implements Person: the page shows the address.
func (t *talk) Browse(address string) error {
	t.change(func() {
		t.link = address
		for i, line := range t.said { // it stands below as a link
			if line == address {
				t.said = append(t.said[:i:i], t.said[i+1:]...)
				break
			}
		}
	})
	return nil
}

// Code shows a code that is to be entered on another device; an empty one shows it no longer.
func (t *talk) Code(c oauth.Code) { t.change(func() { t.code = c }) }

// ask waits for the person's answer.
func (t *talk) ask(text string, secret bool) (string, error) {
	q := &question{text: text, secret: secret, answer: make(chan string, 1)}
	t.change(func() { t.question = q })
	defer t.change(func() { t.question = nil })
	select {
	case a := <-q.answer:
		return a, nil
	case <-t.ctx.Done():
		return "", context.Cause(t.ctx)
	}
}

// answer answers the question that stands.
func (t *talk) answer(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.question != nil {
		select {
		case t.question.answer <- text:
		default: // it was answered already
		}
	}
}

// news is what a talk shows.
type news struct {
	version  int
	said     []string
	question *question
	link     string
	code     oauth.Code
	over     bool
	err      error
}

// look is the news, and what is closed when it changes.
func (t *talk) look() (news, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return news{t.version, t.said[:len(t.said):len(t.said)], t.question, t.link, t.code, t.ended, t.err}, t.changed
}

// talks are those of a page.
type talks struct {
	mu      sync.Mutex
	all     map[string]*talk
	ended   bool
	running sync.WaitGroup
}

// begin starts an attempt. allowed are questions that were agreed to before; nil is none.
func (p *Page) begin(w talkWish, allowed map[string]bool) (*talk, error) {
	id, err := p.gate.secret()
	if err != nil {
		return nil, err
	}
	if allowed == nil {
		allowed = map[string]bool{}
	}
	t := &talk{id: id, wish: w, began: p.cfg.Now(), allowed: allowed, changed: make(chan struct{})}
	// Its time does not end with the request that began it.
	timed, stop := context.WithTimeoutCause(context.Background(), talkLife, errLeftAlone)
	t.ctx, t.cancel = context.WithCancelCause(timed)
	p.talks.mu.Lock()
	defer p.talks.mu.Unlock()
	if p.talks.ended {
		stop()
		return nil, context.Canceled
	}
	if len(p.talks.all) >= maxTalks {
		var oldest *talk
		for _, o := range p.talks.all {
			if oldest == nil || o.began.Before(oldest.began) {
				oldest = o
			}
		}
		oldest.cancel(errLeftAlone)
		delete(p.talks.all, oldest.id)
	}
	p.talks.all[id] = t
	p.talks.running.Go(func() {
		defer stop()
		err := w.run(t.ctx, t)
		if err != nil && t.ctx.Err() != nil {
			err = context.Cause(t.ctx)
		}
		t.change(func() { t.ended, t.err = true, err })
	})
	return t, nil
}

// find finds a talk; nil is none.
func (k *talks) find(id string) *talk {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all[id]
}

// drop forgets a talk, and ends it.
func (k *talks) drop(t *talk) {
	t.cancel(errLeftAlone)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.all, t.id)
}

// end ends all of them and waits.
func (k *talks) end() {
	k.mu.Lock()
	k.ended = true
	for _, t := range k.all {
		t.cancel(errLeftAlone)
	}
	k.mu.Unlock()
	k.running.Wait()
}
