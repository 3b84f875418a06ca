// Package fetch brings an account's mail from its POP3 server into the store, and deletes there
// what may be deleted. A journal in the store's database knows each letter of the server: what was
// fetched under which unique-id, with which hash. What its row will say is written in the transaction that
// makes the letter durable, and the row in that which files it, so that a process killed at any instant fetches
// nothing twice but the letter that was on its way: what had come whole and was not durable lies in files of arrivals.
//
// Nothing is deleted on a server that does not lie here: whole, durable, read back and equal by
// its hash to what the server gave.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/fetch/arrivals"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/pop3client"
)

// Errors that callers branch on.
var (
	ErrBusy = errors.New("this account's mail is being fetched already")
	// ErrEnded means that End ended a fetch, or keeps others from beginning one.
	ErrEnded = errors.New("the fetch was ended, since the account is being removed")
)

// Config is what a Fetcher needs. Store and Open are required.
type Config struct {
	Store *store.Store
	// Open connects to an account's server and logs in.
	Open func(ctx context.Context, a profile.Account) (*pop3client.Session, error)
	// Progress is told how far a fetch is, from its goroutines, often; it must not block.
	Progress func(Progress)
	Now      func() time.Time
	Logger   *slog.Logger // nil discards
}

// Progress is how far a fetch is.
type Progress struct {
	Account               envelope.AccountID
	Letters, TotalLetters int   // durable here, and in all of this fetch
	Octets, TotalOctets   int64 // by the sizes that the server told
	Filing                int   // letters that are durable and are being put into their folders; 0 when none are
	Deleting              int   // letters that are being deleted on the server
}

// Result is what a fetch did. It travels as JSON.
type Result struct {
	Account    envelope.AccountID `json:"account"`
	OnServer   int                `json:"on_server"`
	Fetched    int                `json:"fetched"`
	Headers    int                `json:"headers_only"`
	Recognised int                `json:"recognised"` // here already under another unique-id
	Completed  int                `json:"completed"`
	Deleted    int                `json:"deleted_on_server"`
	Octets     int64              `json:"octets"`
	// Refused are letters that the server does not give or does not delete, in its words; at most
	// MaxRemarks of them and of Remarks.
	Refused []string `json:"refused,omitempty"`
	// Remarks are oddities that a person should know: letters that came back after they were
	// deleted, that are shorter than the server says, that are damaged here.
	Remarks []string `json:"remarks,omitempty"`
}

// MaxRemarks bounds the lists of a Result.
const MaxRemarks = 100

// Fetcher fetches mail. Safe for concurrent use; an account is fetched by one at a time.
type Fetcher struct {
	c       Config
	journal journal

	mu   sync.Mutex
	busy map[envelope.AccountID]*hold
	gone map[envelope.AccountID]bool // those that End has for good
}

// hold is who works on an account's mail.
type hold struct {
	ending bool
	cancel context.CancelCauseFunc
	done   chan struct{}
	at     Progress
}

// New checks the configuration.
func New(c Config) (*Fetcher, error) {
	if c.Store == nil || c.Open == nil {
		return nil, errors.New("fetch needs Config.Store and Config.Open")
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fetcher{c: c, journal: journal{c.Store.DB()}, busy: map[envelope.AccountID]*hold{}, gone: map[envelope.AccountID]bool{}}
	f.c.Progress = func(p Progress) {
		f.reached(p)
		c.Progress(p)
	}
	return f, nil
}

// reached keeps how far a fetch is, for Running.
func (f *Fetcher) reached(p Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.busy[p.Account]; h != nil {
		h.at = p
	}
}

// Running are the fetches that run, by account. One that does not know yet what is to come has no
// TotalLetters.
func (f *Fetcher) Running() []Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Progress
	for _, h := range f.busy {
		if !h.ending {
			all = append(all, h.at)
		}
	}
	slices.SortFunc(all, func(a, b Progress) int { return cmp.Compare(a.Account, b.Account) })
	return all
}

// Sync looks at an account's server once: it fetches what is not here, and deletes there what the
// account's policy says. What was done before an error stays done and is in the Result. While
// another Sync or Complete works on the account it waits, and looks then.
func (f *Fetcher) Sync(ctx context.Context, a profile.Account) (res Result, err error) {
	ctx, done, err := f.await(ctx, a.ID)
	if err != nil {
		return Result{Account: a.ID}, err
	}
	defer done(&err)
	r := &round{f: f, a: a, now: f.c.Now(), res: Result{Account: a.ID}, todo: Progress{Account: a.ID}, alike: map[string]int{}, filed: time.Now()}
	if r.s, err = f.c.Open(ctx, a); err != nil {
		return r.res, fmt.Errorf("fetch %s: %w", a.Address, err)
	}
	defer r.s.Close()
	if err := r.run(ctx); err != nil {
		return r.res, fmt.Errorf("fetch %s: %w", a.Address, err)
	}
	return r.res, nil
}

// await is hold that waits for who has the account.
func (f *Fetcher) await(ctx context.Context, id envelope.AccountID) (context.Context, func(*error), error) {
	for {
		held, done, err := f.hold(ctx, id)
		if !errors.Is(err, ErrBusy) {
			return held, done, err
		}
		f.mu.Lock()
		h := f.busy[id]
		f.mu.Unlock()
		if h == nil {
			continue
		}
		select {
		case <-h.done:
		case <-ctx.Done():
			return ctx, nil, fmt.Errorf("wait for the fetch that runs: %w", ctx.Err())
		}
	}
}

// hold keeps others from the account's mail until done is called, with what the work returns: that
// becomes ErrEnded where End has ended it. The work's context ends then.
func (f *Fetcher) hold(ctx context.Context, id envelope.AccountID) (context.Context, func(*error), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone[id] {
		return ctx, nil, ErrEnded
	}
	if h := f.busy[id]; h != nil {
		if h.ending {
			return ctx, nil, ErrEnded
		}
		return ctx, nil, ErrBusy
	}
	ctx, cancel := context.WithCancelCause(ctx)
	h := &hold{cancel: cancel, done: make(chan struct{}), at: Progress{Account: id}}
	f.busy[id] = h
	return ctx, func(err *error) {
		if *err != nil && errors.Is(context.Cause(ctx), ErrEnded) {
			*err = ErrEnded
		}
		cancel(nil)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.busy, id)
		close(h.done)
	}, nil
}

// End ends a fetch of an account that runs, however long its server is silent, and lets none begin
// until release is called; with gone, none ever. It returns when the fetch has ended; what that had
// brought stays. ErrBusy when somebody else ends it.
func (f *Fetcher) End(ctx context.Context, id envelope.AccountID) (release func(gone bool), err error) {
	mine := &hold{ending: true, cancel: func(error) {}, done: make(chan struct{})}
	for {
		f.mu.Lock()
		h := f.busy[id]
		if h == nil {
			f.busy[id] = mine
			f.mu.Unlock()
			break
		}
		f.mu.Unlock()
		if h.ending {
			return nil, ErrBusy
		}
		h.cancel(ErrEnded)
		select {
		case <-h.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("end the fetch: %w", ctx.Err())
		}
	}
	return func(gone bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if gone {
			f.gone[id] = true
		}
		delete(f.busy, id)
		close(mine.done)
	}, nil
}

// Forget drops the journal of an account that was removed.
func (f *Fetcher) Forget(ctx context.Context, id envelope.AccountID) error {
	if err := f.c.Store.File(ctx, nil); err != nil { // or the journal would be written afterwards
		return err
	}
	arrivals.Forget(f.c.Store.BodyFiles(), int64(id))
	return f.journal.forget(ctx, id)
}

// round is one Sync.
type round struct {
	f     *Fetcher
	a     profile.Account
	s     *pop3client.Session
	now   time.Time
	caps  pop3client.Capabilities
	rows  map[string]*row     // the journal, by key
	lost  map[[32]byte][]*row // those missing on the server by their octets; made when first asked for
	alike map[string]int      // letters without unique-id by their octets
	doubt bool                // a letter came with an odd size: those behind it may be others than were asked for
	res   Result
	todo  Progress

	kept    *arrivals.Files // what has come and is not in the tables
	dock    *dock
	buf     []byte       // for header sections
	coming  atomic.Int64 // letters that have come and are not in the tables
	waiting int          // letters that are durable and not filed
	filed   time.Time    // when the last were
}

func (r *round) run(ctx context.Context) error {
	var err error
	if r.caps, err = r.s.Capabilities(ctx); err != nil {
		return err
	}
	items, err := r.s.List(ctx)
	if err != nil {
		return err
	}
	r.res.OnServer = len(items)
	if err := r.f.c.Store.File(ctx, nil); err != nil { // what a fetch before could not
		return err
	}
	if r.rows, err = r.f.journal.load(ctx, r.a.ID); err != nil {
		return err
	}
	mail, err := r.identify(ctx, items)
	if err != nil {
		return err
	}
	fresh, err := r.compare(ctx, mail)
	if err != nil {
		return err
	}
	if fresh, err = r.recognise(ctx, fresh); err != nil {
		return err
	}
	r.kept = r.f.arrivals(r.a)
	err = r.take(ctx, fresh)
	r.kept.Close()
	if err != nil {
		return err
	}
	if err := r.learn(ctx); err != nil {
		return err
	}
	return r.remove(ctx, mail)
}

// arrivals are the files of what came for an account.
func (f *Fetcher) arrivals(a profile.Account) *arrivals.Files {
	server := arrivals.ServerOf(a.Incoming.Host, int(a.Incoming.Port), a.Incoming.Login)
	return arrivals.New(f.c.Store.BodyFiles(), int64(a.ID), server, f.c.Logger)
}

// tops reports whether TOP may be tried.
func (r *round) tops() bool { return r.caps.TOP || !r.caps.Known }

// refuse notes what the server refused; other errors are returned.
func (r *round) refuse(err error) error {
	var refused pop3client.Refusals
	if err == nil || !errors.As(err, &refused) {
		return err
	}
	for _, e := range refused {
		r.note(&r.res.Refused, e.Error())
	}
	return nil
}

func (r *round) remark(format string, args ...any) {
	r.note(&r.res.Remarks, fmt.Sprintf(format, args...))
}

func (r *round) note(list *[]string, text string) {
	r.f.c.Logger.Info("while fetching", "account", r.a.Address, "remark", text)
	if len(*list) < MaxRemarks {
		*list = append(*list, text)
	}
}

// write changes rows of the journal, in chunks.
func (r *round) write(ctx context.Context, changed []*row, dropped []string) error {
	for len(changed) > 0 || len(dropped) > 0 {
		n, m := min(len(changed), db.MaxChunk), min(len(dropped), db.MaxChunk)
		err := r.f.c.Store.DB().Update(ctx, func(tx db.Tx) error {
			for _, key := range dropped[:m] {
				if err := r.f.journal.drop(tx, r.a.ID, key); err != nil {
					return err
				}
			}
			for _, w := range changed[:n] {
				if err := r.f.journal.put(tx, r.a.ID, w); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
		changed, dropped = changed[n:], dropped[m:]
	}
	return nil
}
