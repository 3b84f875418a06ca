package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/post"
)

// testWords is how many words of the classifier are shown.
const testWords = 15

// TestOptions are the circumstances of a message that is judged for a test; all may be empty.
type TestOptions struct {
	Peer, Helo, From, To string
	Offline              bool
	// Outgoing judges the message as one of our own people's, who is Account if that is named.
	Outgoing bool
	Account  string
}

// TestRow is what would become of a message for one recipient.
type TestRow struct {
	Recipient string `json:"recipient"` // "" when none was named
	VerdictRow
	Greylisted bool      `json:"greylisted"` // a host whose network is unknown would be asked to come again
	Classifier LearnRow  `json:"classifier"`
	Words      []WordRow `json:"words"`
	// Conduct is what would befall an outgoing message because the account sends unlike itself: slow,
	// hold or refuse; "" is nothing.
	Conduct string `json:"conduct"`
}

// LearnRow is what the classifier thinks.
type LearnRow struct {
	Answer      string  `json:"answer"` // spam, ham, or unsure
	Probability float64 `json:"probability"`
	Known       int     `json:"known_features"`
	Features    int     `json:"features"`
	Trained     bool    `json:"trained"` // enough was learned to answer
	Own         bool    `json:"own"`     // the account's own samples took part
}

// WordRow is what spoke loudest to the classifier.
type WordRow struct {
	Text        string  `json:"text"`
	Probability float64 `json:"probability"` // of spam
	Seen        int     `json:"seen"`
}

// SpamTest judges the message in the input as if it came in now, or went out. Nothing is delivered
// or remembered here.
func (d *Desk) SpamTest(ctx context.Context, o TestOptions) error {
	q, err := d.question(ctx, o)
	if err != nil {
		return err
	}
	f, err := d.examiner(ctx)
	if err != nil {
		return err
	}
	got, err := f.Explain(ctx, q)
	if err != nil {
		return fmt.Errorf("judge message: %w", err)
	}
	var rows []TestRow
	for k, e := range got {
		row := TestRow{Recipient: o.To, VerdictRow: verdictRow(filter.Tell(e.Verdict)), Greylisted: e.Grey, Words: []WordRow{}}
		if k < len(q.Whole.Locals) && !o.Outgoing { // which is judged once, for all
			row.Recipient = q.Whole.Locals[k].Login
		}
		if e.Conduct.Action != conduct.Allow {
			row.Conduct = e.Conduct.Action.String()
		}
		l := e.Learned
		row.Classifier = LearnRow{Answer: l.Answer().String(), Probability: l.Probability, Known: l.Known, Features: l.Features, Trained: l.Trained, Own: l.Own}
		for _, w := range e.Words {
			row.Words = append(row.Words, WordRow{w.Text, w.Probability, w.Seen})
		}
		rows = append(rows, row)
	}
	if d.JSON {
		return table(d, rows, "", nil)
	}
	for _, r := range rows {
		d.tellTest(r, o)
	}
	return nil
}

// examiner is a filter as the server's, which does not count or report.
func (d *Desk) examiner(ctx context.Context) (*filter.Filter, error) {
	if err := d.Rooms.Classifier.Load(ctx); err != nil { // a server has done it
		return nil, fmt.Errorf("read what the classifier has learned: %w", err)
	}
	metrics, dns := obs.NewMetrics(), d.Resolver
	if dns == nil {
		cache, err := daemon.NewResolver(d.Rooms.Config, metrics)
		if err != nil {
			return nil, fmt.Errorf("open DNS: %w", err)
		}
		dns = cache
	}
	all, err := daemon.NewFilters(d.Rooms, dns, metrics, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("open filters: %w", err)
	}
	if all.Filter == nil {
		return nil, errors.New("every filter is off: turn on [verify], [spam] or another in the configuration")
	}
	return all.Filter, nil
}

// tellTest prints a test for a person.
func (d *Desk) tellTest(r TestRow, o TestOptions) {
	to := ""
	if r.Recipient != "" {
		to = " for " + r.Recipient
	}
	d.say("action%s: %s", to, r.decision())
	switch {
	case o.Outgoing && o.Account == "":
		d.say("What our own people send is not scored; with --account its conduct would be looked at too.")
	case o.Outgoing && !d.Rooms.Config.Conduct.Enabled:
		d.say("What our own people send is not scored, and [conduct] is off: nobody notices when an account sends unlike itself.")
	case o.Outgoing && r.Conduct == "":
		d.say("What our own people send is not scored; %s sends like itself.", o.Account)
	case o.Outgoing:
		d.say("%s sends unlike itself: %s.", o.Account, map[string]string{"slow": "it would be put off", "hold": "its mail to other hosts would be held", "refuse": "it would be refused"}[r.Conduct])
	}
	if r.Greylisted {
		d.say("A host whose network we do not know is asked to come again first (greylisting).")
	}
	d.evidence("  ", r.Evidence)
	switch c := r.Classifier; {
	case !c.Trained:
		d.say("The classifier says nothing: it has learned too little (poczta spam stats).")
	default:
		d.say("The classifier says %s: %.1f %% spam, by %d of %d features that it knows.", c.Answer, c.Probability*100, c.Known, c.Features)
		for _, w := range r.Words {
			d.say("  %3.0f %% in spam, seen %d times: %s", w.Probability*100, w.Seen, w.Text)
		}
	}
}

// question reads the message and its circumstances.
func (d *Desk) question(ctx context.Context, o TestOptions) (filter.Question, error) {
	limit := int64(d.Rooms.Config.SMTP.MaxSize)
	msg, err := io.ReadAll(io.LimitReader(message.NewReader(d.In), limit+1))
	switch {
	case err != nil:
		return filter.Question{}, fmt.Errorf("read message: %w", err)
	case int64(len(msg)) > limit:
		return filter.Question{}, fmt.Errorf("the message is larger than %d octets, which smtp.max_size allows, and would be refused", limit)
	case len(msg) == 0:
		return filter.Question{}, errors.New("the file is empty; name one that holds a message")
	}
	header, rest, _ := message.SplitHeader(msg)
	body := dkim.AfterEmptyLine(rest)
	env := &envelope.Envelope{Origin: envelope.Origin{Helo: o.Helo, Protocol: "ESMTP", Time: d.Now()}, Size: int64(len(msg))}
	if o.From, err = d.submitter(ctx, o, env); err != nil {
		return filter.Question{}, err
	}
	if o.Peer != "" {
		peer, err := netip.ParseAddr(o.Peer)
		if err != nil {
			return filter.Question{}, fmt.Errorf("%w: --peer %q is no IP address", ErrUsage, o.Peer)
		}
		env.Origin.Peer = netip.AddrPortFrom(peer, 25)
	}
	if env.ReversePath, err = reversePath(o.From, header); err != nil {
		return filter.Question{}, err
	}
	w := &intake.Whole{Message: bytes.NewReader(msg), Size: int64(len(msg)), Header: header, Body: bytes.NewReader(body), BodySize: int64(len(body))}
	if err := d.recipient(ctx, o.To, env, w); err != nil {
		return filter.Question{}, err
	}
	if o.Outgoing && o.To == "" {
		w.Remotes = nil
	}
	return filter.Question{Incoming: intake.Incoming{Envelope: env, Header: header, Outgoing: o.Outgoing}, Whole: w, Offline: o.Offline, Words: testWords}, nil
}

// submitter notes who sends an outgoing message, and returns its reverse-path unless that is named.
func (d *Desk) submitter(ctx context.Context, o TestOptions, env *envelope.Envelope) (from string, err error) {
	switch {
	case o.Account != "" && !o.Outgoing:
		return "", fmt.Errorf("%w: --account says who sends; give --outgoing too, or name the recipient with --to", ErrUsage)
	case o.Account == "":
		return o.From, nil
	}
	a, err := d.find(ctx, o.Account)
	if err != nil {
		return "", err
	}
	env.Origin.Account, env.Origin.Login, env.Origin.Protocol = a.ID, a.Address.String(), "ESMTPSA"
	if o.From == "" {
		return a.Address.String(), nil
	}
	return o.From, nil
}

// reversePath is the one named, or that of Return-Path; null when there is none.
func reversePath(named string, header []byte) (address.ReversePath, error) {
	s := named
	if s == "" {
		s, _ = message.Get(header, "Return-Path")
	}
	s = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "<"), ">")
	if s == "" {
		return address.ReversePath{}, nil
	}
	a, err := address.Parse(s)
	if err != nil && named != "" {
		return address.ReversePath{}, fmt.Errorf("%w: --from %q is not an address: %w", ErrUsage, named, err)
	}
	if err != nil {
		return address.ReversePath{}, nil // the file may hold anything
	}
	return address.NewReversePath(a), nil
}

// recipient adds whom the message is for; without one it is judged for nobody in particular.
func (d *Desk) recipient(ctx context.Context, to string, env *envelope.Envelope, w *intake.Whole) error {
	if to == "" {
		w.Remotes = []post.Remote{{}}
		return nil
	}
	a, err := parseAddress(to)
	if err != nil {
		return err
	}
	path := address.NewForwardPath(a)
	env.Recipients = []envelope.Recipient{{ForwardPath: path}}
	route, err := d.Rooms.Accounts.Route(ctx, path)
	if err != nil && !errors.Is(err, account.ErrUnknownUser) && !errors.Is(err, account.ErrNotLocal) {
		return explain(err, "find mailbox of "+to)
	}
	for _, l := range route.Locals {
		w.Locals = append(w.Locals, post.Local{Recipients: []int{0}, Account: l.Account, Login: l.Login})
	}
	if len(w.Locals) == 0 { // elsewhere, a spam trap, or nobody
		w.Remotes = []post.Remote{{ForwardPath: path}}
	}
	return nil
}
