package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/digest"
	"poczta.example/poczta/internal/dmarcreport"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/greylist"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/rspamd"
	"poczta.example/poczta/internal/tlsreport"
)

// filterComponents are the tables of the filters' rooms.
func filterComponents() []db.Component {
	return []db.Component{classifier.Schema, preference.Component(), reputation.Component(), greylist.Component(), conduct.Component(),
		quarantine.Schema, digest.Schema, dmarcreport.Schema, tlsreport.Schema}
}

// FilterRooms are the rooms of the filters that hold state.
type FilterRooms struct {
	Classifier  *classifier.Classifier
	Preferences *preference.Preferences
	Reputation  *reputation.Store
	Greylist    *greylist.List
	Conduct     *conduct.Watch
	Quarantine  *quarantine.Room
	// DMARCReports has what others report; it neither counts nor sends.
	DMARCReports *dmarcreport.Reports
	TLSReports   *tlsreport.Receiver
	// Learner teaches the classifier, and Rspamd if it is to learn too.
	Learner Learner
}

// openFilters opens the rooms of the filters; the rooms of mail are open.
func (r *Rooms) openFilters(o RoomOptions) error {
	var err error
	if r.Classifier, err = classifier.New(classifier.Config{DB: r.DB, Hooks: o.Metrics.Classifier(), Logger: o.Logger}); err != nil {
		return fmt.Errorf("open classifier: %w", err)
	}
	teacher, err := newTeacher(r.Config, o.Metrics, o.Logger)
	if err != nil {
		return err
	}
	r.Learner = Learner{r.Classifier, teacher}
	r.closers = append(r.closers, r.Learner.Close)
	if r.Preferences, err = preference.New(preference.Config{DB: r.DB, Logger: o.Logger}); err != nil {
		return fmt.Errorf("open preferences: %w", err)
	}
	if r.Reputation, err = reputation.New(reputation.Config{DB: r.DB, Hooks: o.Metrics.Reputation(), Logger: o.Logger}); err != nil {
		return fmt.Errorf("open reputation: %w", err)
	}
	r.closers = append(r.closers, func() error { return r.Reputation.Flush(context.Background()) }) // what a command has corrected
	if r.Greylist, err = greylist.New(greylist.Config{DB: r.DB, Delay: r.Config.Spam.GreyDelay.Duration(), Hooks: o.Metrics.Greylist(), Logger: o.Logger}); err != nil {
		return fmt.Errorf("open greylist: %w", err)
	}
	rules, err := conductRules(&r.Config.Conduct)
	if err != nil {
		return err
	}
	if r.Conduct, err = conduct.New(conduct.Config{DB: r.DB, Rules: rules, Hooks: o.Metrics.Conduct(), Logger: o.Logger}); err != nil {
		return fmt.Errorf("open conduct: %w", err)
	}
	r.Quarantine, err = quarantine.New(quarantine.Config{DB: r.DB, Mailboxes: r.Mailboxes, Trace: r.Trace, Queue: r.Queue, Learner: r.Learner,
		Reputation: r.Reputation, Hostname: r.Config.Hostname, Quota: r.quota, Keep: r.Config.Quarantine.Keep.Duration(), Hooks: o.Metrics.Quarantine(), Logger: o.Logger})
	if err != nil {
		return fmt.Errorf("open quarantine: %w", err)
	}
	if r.DMARCReports, err = dmarcreport.New(dmarcreport.Config{DB: r.DB, Own: r.own, Keep: r.Config.DMARCReports.Keep.Duration(), NoSending: true, Logger: o.Logger}); err != nil {
		return fmt.Errorf("open DMARC reports: %w", err)
	}
	if r.TLSReports, err = tlsreport.NewReceiver(tlsreport.ReceiverConfig{DB: r.DB, Own: r.own, Logger: o.Logger}); err != nil {
		return fmt.Errorf("open TLS reports: %w", err)
	}
	return nil
}

// conductRules are the rules of [conduct]; -1 switches one off.
func conductRules(c *config.Conduct) (conduct.Rules, error) {
	out := conduct.Rules{For: c.For.Duration()}
	for _, r := range []struct {
		key    string
		to     *conduct.Rule
		limit  int
		action string
	}{{"new_recipients", &out.Fresh, c.Fresh, c.FreshAction}, {"refused_recipients", &out.Refused, c.Refused, c.RefusedAction},
		{"spam_sent", &out.Spam, c.Spam, c.SpamAction}, {"login_networks", &out.Networks, c.Networks, c.NetworksAction}} {
		a, err := conduct.ParseAction(r.action)
		if err != nil {
			return out, fmt.Errorf("conduct.%s_action: %w", r.key, err)
		}
		*r.to = conduct.Rule{Limit: int64(r.limit), Action: a}
	}
	return out, nil
}

// Forget removes all that the filters' rooms keep of an account, as when it is removed. What the
// server learned of its mail stays.
func (r *Rooms) Forget(ctx context.Context, account envelope.AccountID) error {
	err := r.DB.Update(ctx, func(tx db.Tx) error {
		for _, purge := range []func(db.Tx, envelope.AccountID) error{r.Preferences.Purge, r.Reputation.Purge, r.Conduct.Purge, r.Quarantine.Purge, digest.Purge} {
			if err := purge(tx, account); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget account in the filters: %w", err)
	}
	r.Reputation.Forget(account)
	r.Conduct.Forget(account)
	return r.Classifier.ForgetAccount(ctx, account)
}

// own reports whether a domain, or one above it, is ours.
func (r *Rooms) own(ctx context.Context, domain address.Domain) (bool, error) {
	for name := domain.String(); name != ""; {
		d, err := address.ParseDomain(name)
		if err != nil {
			return false, nil // a label alone may be none
		}
		if local, err := r.Accounts.IsLocal(ctx, d); local || err != nil {
			return local, err
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return false, nil
}

// Learner teaches the classifier what people release, move and mark, and Rspamd if it is to learn too.
type Learner struct {
	*classifier.Classifier
	teacher *rspamd.Teacher // nil when there is none
}

// Learn implements quarantine.Learner.
func (l Learner) Learn(ctx context.Context, account envelope.AccountID, msg io.ReaderAt, size int64, spam bool) error {
	s, err := l.Sample(io.NewSectionReader(msg, 0, size), spam)
	if err != nil {
		return err
	}
	if err := l.Classifier.Learn(ctx, account, s.Features, s.Hash, spam); err != nil {
		return err
	}
	l.teacher.Teach(account, s.Octets, spam)
	return nil
}

// LearnMany learns samples as Classifier.LearnMany does, and hands them on to Rspamd as fast as
// it takes them.
func (l Learner) LearnMany(ctx context.Context, account envelope.AccountID, samples []Sample) (int, error) {
	n, err := l.Classifier.LearnMany(ctx, account, func(yield func(classifier.Sample) bool) {
		for i := range samples {
			if !yield(samples[i].Sample) {
				return
			}
		}
	}, nil)
	for i := range samples[:n] {
		if lerr := l.teacher.TeachPatiently(ctx, account, samples[i].Octets, samples[i].Spam); lerr != nil {
			return n, lerr
		}
	}
	return n, err
}

// Sample is a message to learn.
type Sample struct {
	classifier.Sample
	Octets []byte // nil when nobody wants them
}

// learnOctets is how much of a message is read to be learned; what follows says little more.
const learnOctets = 4 << 20

// Sample reads a message, or the first 4 MiB of it.
func (l Learner) Sample(r io.Reader, spam bool) (Sample, error) {
	octets, err := io.ReadAll(io.LimitReader(r, learnOctets))
	if err != nil {
		return Sample{}, fmt.Errorf("read message: %w", err)
	}
	c, err := content.Read(bytes.NewReader(octets), int64(len(octets)), content.Facts{Now: time.Now()}, content.Limits{})
	if err != nil {
		return Sample{}, fmt.Errorf("read message: %w", err)
	}
	h, err := classifier.HashOf(bytes.NewReader(octets))
	if err != nil {
		return Sample{}, err
	}
	s := Sample{Sample: classifier.Sample{Features: l.Features(c), Hash: h, Spam: spam}}
	if l.teacher != nil {
		s.Octets = octets
	}
	return s, nil
}

// Close waits some seconds for what is still on its way to Rspamd.
func (l Learner) Close() error { return l.teacher.Close() }

// newTeacher makes what teaches Rspamd; nil when it is not to learn.
func newTeacher(c *config.Config, metrics *obs.Metrics, log *slog.Logger) (*rspamd.Teacher, error) {
	if c.Rspamd.URL == "" || !c.Rspamd.Learn {
		return nil, nil
	}
	client, err := newRspamd(c, metrics, log)
	if err != nil {
		return nil, err
	}
	return rspamd.NewTeacher(rspamd.TeacherConfig{Pupil: client, Dropped: metrics.RspamdDropped, Logger: log})
}
