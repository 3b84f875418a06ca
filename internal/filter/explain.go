package filter

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/verdict"
)

// Question is a message that nobody sent, to be judged as if it came in, or went out.
type Question struct {
	Incoming intake.Incoming // with Outgoing, of Envelope.Origin.Account
	Whole    *intake.Whole   // with at least one of Locals and Remotes
	// Offline asks neither DNS nor other filters.
	Offline bool
	Words   int // how many of the words that spoke loudest are wanted
}

// Explanation is what would become of a Question for one recipient.
type Explanation struct {
	Verdict verdict.Verdict
	// Grey says that a host whose network is unknown would be asked to come again.
	Grey bool
	// Learned is what the classifier thinks, and Words are what spoke loudest; zero without one.
	Learned classifier.Judgement
	Words   []classifier.Word
	// Conduct is what the account's conduct would lead to, of an outgoing message.
	Conduct conduct.Decision
}

// Explain judges a message as Inspect would, for each of Locals and then of Remotes, and leaves
// no trace: nothing is delivered, noted, learned, counted or greylisted. Other filters see the
// message, unless it is asked offline. An error says that the message could not be read.
func (f *Filter) Explain(ctx context.Context, q Question) ([]Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, f.c.Timeout)
	defer cancel()
	quiet := &Filter{c: f.c}
	quiet.c.Hooks = Hooks{}
	if q.Offline {
		quiet.c.Verifier, quiet.c.Greeting, quiet.c.Lists = nil, nil, nil
		quiet.c.Clamd, quiet.c.Rspamd, quiet.c.Milters, quiet.c.Hook = nil, nil, nil, nil
	}
	i := quiet.inspect(ctx, q.Incoming)
	i.quiet = true
	defer i.Abort()
	buf := make([]byte, 64<<10)
	for at := int64(0); at < q.Whole.BodySize; {
		n, err := q.Whole.Body.ReadAt(buf[:min(int64(len(buf)), q.Whole.BodySize-at)], at)
		_, _ = i.Write(buf[:n]) // it takes everything
		if at += int64(n); n == 0 {
			return nil, fmt.Errorf("read message: %w", err)
		}
	}
	i.whole = q.Whole
	i.changed = milter.Message{Origin: i.in.Envelope.Origin, Envelope: *i.in.Envelope, Header: i.in.Header, Body: q.Whole.Body, Size: q.Whole.BodySize, QueueID: i.in.ID.String()}
	if err := i.gather(ctx); err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	if i.in.Outgoing {
		return []Explanation{i.explainOutgoing(ctx, q)}, nil
	}
	i.unverifiable()
	d := i.weigh(ctx)
	grey := i.grey(&d)
	var out []Explanation
	for k, v := range d.all() {
		e := Explanation{Verdict: v, Grey: grey}
		account := classifier.Common
		if k < len(q.Whole.Locals) {
			account = q.Whole.Locals[k].Account
		}
		i.learned(ctx, &e, account, q.Words)
		out = append(out, e)
	}
	return out, nil
}

// explainOutgoing is what would become of a message of our own people, for all recipients.
func (i *inspection) explainOutgoing(ctx context.Context, q Question) Explanation {
	f, account := i.f, i.in.Envelope.Origin.Account
	v := verdict.Decide(i.items, f.c.Settings)
	e := Explanation{Verdict: outgoing(v)}
	i.learned(ctx, &e, classifier.Common, q.Words)
	if f.c.Conduct == nil || account == 0 {
		return e
	}
	var err error
	e.Conduct, err = f.c.Conduct.Foresee(ctx, account, i.sending(ctx, account, i.looksLikeSpam(ctx, v)))
	i.note("conduct", err)
	if e.Verdict.Action >= verdict.Defer {
		return e // it is not sent
	}
	for _, w := range verdict.Weigh(e.Conduct.Items(), nil) {
		e.Verdict.Items = append(e.Verdict.Items, w)
		if w.Demand > e.Verdict.Action { // held, or not taken
			e.Verdict.Action, e.Verdict.Rule = w.Demand, string(w.Name)
		}
	}
	return e
}

// learned adds what the classifier thinks.
func (i *inspection) learned(ctx context.Context, e *Explanation, account envelope.AccountID, words int) {
	if f := i.f; f.c.Classifier != nil && !f.c.NoScore {
		var err error
		e.Learned, e.Words, err = f.c.Classifier.Explain(ctx, account, i.content, words)
		i.note("classifier", err)
	}
}

// Told is a verdict as the trace tells it.
type Told struct {
	Action   verdict.Action
	Score    float64
	Rule     string
	Evidence []Evidence
}

// Evidence is a piece of evidence as the trace tells it.
type Evidence struct {
	Points float64
	Name   verdict.Name
	Detail string
}

// ParseVerdict reads the detail of an event of KindVerdict; ok is false when it is none.
func ParseVerdict(detail string) (told Told, ok bool) {
	first, rest, more := strings.Cut(detail, "\n")
	action, first, found := strings.Cut(first, ", score ")
	score, rule, ruled := strings.Cut(first, ": ")
	if !found || !ruled {
		return Told{}, false
	}
	var err error
	if told.Action, err = verdict.ParseAction(action); err != nil {
		return Told{}, false
	}
	if told.Score, err = strconv.ParseFloat(score, 64); err != nil {
		return Told{}, false
	}
	told.Rule = rule
	for more {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		points, line, named := strings.Cut(line, " ")
		n, err := strconv.ParseFloat(points, 64)
		if err != nil || !named {
			return Told{}, false
		}
		name, detail, _ := strings.Cut(line, " ")
		told.Evidence = append(told.Evidence, Evidence{Points: n, Name: verdict.Name(name), Detail: detail})
	}
	return told, true
}

// Tell is a verdict as the trace tells it, the weightiest evidence first.
func Tell(v verdict.Verdict) Told {
	told := Told{Action: v.Action, Score: v.Score, Rule: v.Rule}
	for _, w := range weightiest(v.Items) {
		told.Evidence = append(told.Evidence, Evidence{Points: w.Points, Name: w.Name, Detail: oneLined(w.Detail)})
	}
	return told
}
