package page

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/store"
)

// Outbox keeps letters until they are sent; see Through.
type Outbox interface {
	// Check says in a language which recipients of an account's letter can't be reached, a sentence
	// each.
	Check(ctx context.Context, account envelope.AccountID, recipients []string, language string) ([]string, error)
	// Put stores a letter durably to be sent; the copy in Sent is its own business.
	Put(ctx context.Context, d *compose.Draft, s Sending) error
	// List are the letters that are not done with, the newest first. What they say is in a language.
	List(ctx context.Context, language string) ([]Item, error)
	// Item is a letter that was put there, also one that is done with. outbox.ErrNotFound.
	Item(ctx context.Context, id, language string) (Item, error)
	// Do does what a person decided: it gets ID of an Item.
	Do(ctx context.Context, id string, c Decision) error
	// Fates say in plain words of a language what became of a letter; none is not known.
	Fates(ctx context.Context, messageID, language string) ([]string, error)
}

// Sending is how a letter is to be sent.
type Sending struct {
	At     time.Time // zero: now
	Now    time.Time
	Notify bool // tell when it was delivered (DSN)
	Anyway bool // although Check said something
	// Draft is the letter in Drafts that is this one, 0 for none; it goes.
	Draft store.LetterID
}

// State is how far a letter in the outbox is.
type State string

// The states.
const (
	Waiting State = "waiting" // for its time or the network
	Under   State = "sending"
	Sent    State = "sent"
	Refused State = "refused"
	Perhaps State = "perhaps" // the line was lost before the server's last reply
	Undone  State = "undone"
)

// Decision is what a person wants of a letter in the outbox.
type Decision string

// The decisions.
const (
	Again Decision = "again" // 'perhaps sent': send it again
	Done  Decision = "done"  // 'perhaps sent': it was
	Retry Decision = "retry" // now
	Undo  Decision = "undo"  // back to the drafts
)

// Item is a letter in the outbox.
type Item struct {
	ID         string
	State      State
	From       string
	Recipients []string
	Subject    string
	At         time.Time // when it was put there
	Next       time.Time // when it is tried next; zero: never by itself
	Attempts   int
	Says       []string // what servers said, in plain words
}

// outboxView is the page of the outbox.
type outboxView struct {
	frame
	Items []itemView
}

type itemView struct {
	Item
	Status, To, AtText, Machine, NextText string
	Soon                                  string // in how many seconds it is sent
	Key                                   string // another when more than Soon has changed
	Decide, CanRetry, CanUndo             bool
}

// maxFollowed is how many letters our script follows.
const maxFollowed = 100

// outbox shows what is to be sent. Our script asks again and again, with the letters that it shows:
// what became of those that are done with since is told.
func (v *visit) outbox() (err error) {
	part := v.r.Header.Get("X-Poczta-Part") == "queue"
	view := outboxView{frame: v.bare(v.t.Outbox)}
	if !part {
		if view.frame, err = v.full(v.t.Outbox, "outbox", where{}); err != nil {
			return err
		}
	}
	if v.p.cfg.Outbox != nil {
		items, err := v.p.cfg.Outbox.List(v.r.Context(), v.t.Lang)
		if err != nil {
			return err
		}
		if items, err = v.followed(items); err != nil {
			return err
		}
		for _, i := range items {
			view.Items = append(view.Items, v.item(i))
		}
	}
	if part {
		return v.show("queue", view)
	}
	return v.show("outbox.html", view)
}

// followed puts those letters that the script shows, and that are done with, to the others.
func (v *visit) followed(items []Item) ([]Item, error) {
	was := strings.FieldsFunc(v.r.URL.Query().Get("was"), func(r rune) bool { return r == ',' })
	for _, id := range was[:min(len(was), maxFollowed)] {
		if slices.ContainsFunc(items, func(i Item) bool { return i.ID == id }) {
			continue
		}
		i, err := v.p.cfg.Outbox.Item(v.r.Context(), id, v.t.Lang)
		if errors.Is(err, outbox.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, nil
}

func (v *visit) item(i Item) itemView {
	at := i.At.In(v.p.cfg.Zone)
	states := map[State]string{Waiting: v.t.Waiting, Under: v.t.Sending, Sent: v.t.SentState, Refused: v.t.Refused, Perhaps: v.t.Perhaps, Undone: v.t.UndoneState}
	view := itemView{Item: i, Status: states[i.State], To: strings.Join(i.Recipients, ", "), AtText: v.t.long(at), Machine: at.Format(time.RFC3339)}
	if view.Subject == "" {
		view.Subject = v.t.NoSubject
	}
	left := i.Next.Sub(v.p.cfg.Now())
	switch {
	case i.Next.IsZero():
	case i.State == Waiting && left <= 0:
		view.Soon = v.t.SentNow
	case i.State == Waiting && i.Attempts == 0 && left < time.Minute:
		view.Soon = v.t.about(v.t.SentIn, strconv.Itoa(int((left+time.Second-1)/time.Second)))
	default:
		view.NextText = v.t.long(i.Next.In(v.p.cfg.Zone))
	}
	view.Key = fmt.Sprint(i.State, i.Attempts, i.Recipients, i.Says, view.NextText)
	view.Decide = i.State == Perhaps
	view.CanRetry = i.State == Waiting || i.State == Refused
	view.CanUndo = i.State == Waiting || i.State == Refused
	return view
}

// decide does what the person decided about a letter in the outbox.
func (v *visit) decide() error {
	if err := v.form(); err != nil {
		return err
	}
	id, do := v.r.PostForm.Get("id"), Decision(v.r.PostForm.Get("do"))
	switch do {
	case Again, Done, Retry, Undo:
	default:
		return errRequest
	}
	if v.p.cfg.Outbox == nil {
		return errRequest
	}
	if err := v.p.cfg.Outbox.Do(v.r.Context(), id, do); err != nil {
		v.say(flash{Text: v.t.Failed + ": " + v.t.trouble(err), Bad: true})
	} else if do == Undo {
		v.say(flash{Text: v.t.Undone})
	}
	return v.redirect("/outbox")
}

func (v *visit) fates(messageID string) ([]string, error) {
	return v.p.cfg.Outbox.Fates(v.r.Context(), messageID, v.t.Lang)
}
