package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/intake"
)

// filterRows compare mail that is verified and judged with mail that is not, and with peers
// that do as much.
func filterRows() []row {
	return []row{
		{"inbound, verified and judged (SPF, DKIM RSA-2048, DMARC, classifier), against the same without, 4 KiB, one message a connection", "≥ 50 %", filtersOnAndOff},
		{"inbound, verified and judged, against Postfix+Dovecot with Rspamd, 4 KiB, one message a connection", "≥ 10 ×", filtersAgainst(filterPeer{
			name: "Postfix+Rspamd+Dovecot", start: (*bench).startRspamd, warm: signedLetters,
			mark: "Authentication-Results:", passed: []string{"spf=pass", "dkim=pass", "dmarc=pass"}})},
		{"inbound, verified and judged, against Postfix+Dovecot with OpenDKIM and SpamAssassin, 4 KiB, one message a connection", "≥ 10 ×", filtersAgainst(filterPeer{
			name: "Postfix+OpenDKIM+SpamAssassin+Dovecot", start: (*bench).startSpamAssassin, warm: 2 * filterSessions, // seconds on a busy machine
			mark: "X-Spam-Status:", passed: []string{"SPF_PASS", "DKIM_VALID_AU", "dkim=pass"}})},
	}
}

// filterPeer is a mail system's filters.
type filterPeer struct {
	name   string
	start  func(b *bench, ctx context.Context, mail *signedMail) (milters []string, err error)
	warm   int      // messages that are not counted
	mark   string   // what they leave in every header
	passed []string // and in that of mail whose sender is proven
}

const filterSessions = 20

// filtersOnAndOff delivers signed mail to a server with all filters and to one with none, in turn.
func filtersOnAndOff(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "messages/s", peerOf: "filters off"}
	mail, err := b.newSignedMail()
	if err != nil {
		return res, err
	}
	on, err := b.startFilters(ctx, mail.dns, true)
	if err != nil {
		return res, err
	}
	off, err := b.startFilters(ctx, mail.dns, false)
	if err != nil {
		return res, err
	}
	for _, o := range []*ours{on, off} { // the first logins, whose passwords are hashed, are no message's cost
		if _, err := o.stored(ctx); err != nil {
			return res, err
		}
	}
	cpuOn, cpuOff := time.Duration(0), time.Duration(0)
	for range b.runs {
		before := cpuOf(on.pid())
		ours, err := on.rateSigned(ctx, mail)
		if err != nil {
			return res, err
		}
		cpuOn += cpuOf(on.pid()) - before
		before = cpuOf(off.pid())
		peer, err := off.rateSigned(ctx, mail)
		if err != nil {
			return res, err
		}
		cpuOff += cpuOf(off.pid()) - before
		res.ours, res.peer = append(res.ours, ours), append(res.peer, peer)
	}
	if err := on.proven(); err != nil {
		return res, err
	}
	sentOn, err := on.stored(ctx)
	if err != nil {
		return res, err
	}
	sentOff, err := off.stored(ctx)
	if err != nil {
		return res, err
	}
	res.note = fmt.Sprintf("CPU a message %.3f ms and %.3f ms", ms(cpuOn)/float64(sentOn), ms(cpuOff)/float64(sentOff))
	return res, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// rateSigned measures signed messages a second that reach INBOX.
func (o *ours) rateSigned(ctx context.Context, mail *signedMail) (float64, error) {
	before, err := o.stored(ctx)
	if err != nil {
		return 0, err
	}
	rate, err := mail.rate(ctx, o.b, o.smtp, filterSessions, signedLetters, func(n int) error { return o.waitStored(ctx, before+n) })
	if err != nil {
		return 0, fmt.Errorf("poczta: %w", err)
	}
	return rate, nil
}

// filtersAgainst delivers signed mail to us with all filters, and to Postfix with a peer's filters and
// Dovecot, in turn.
func filtersAgainst(peer filterPeer) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		res := result{unit: "messages/s", peerOf: peer.name}
		mail, err := b.newSignedMail()
		if err != nil {
			return res, err
		}
		on, err := b.startFilters(ctx, mail.dns, true)
		if err != nil {
			return res, err
		}
		milters, err := peer.start(b, ctx, mail)
		if err != nil {
			return res, err
		}
		p, err := b.startPair(ctx, false, false)
		if err != nil {
			return res, err
		}
		if err := p.filterBy(ctx, milters...); err != nil {
			return res, err
		}
		for range b.runs {
			ours, err := on.rateSigned(ctx, mail)
			if err != nil {
				return res, err
			}
			if err := p.clean(); err != nil {
				return res, err
			}
			rate, err := mail.rate(ctx, b, p.smtp, filterSessions, peer.warm, func(n int) error { return waitCount(ctx, p.delivered, n) })
			if err != nil {
				return res, fmt.Errorf("postfix: %w", err)
			}
			res.ours, res.peer = append(res.ours, ours), append(res.peer, rate)
		}
		if err := on.proven(); err != nil {
			return res, err
		}
		res.note, err = p.judged(peer.mark, peer.passed...)
		return res, err
	}
}

// startFilters starts a server that asks the name server, is told peers' addresses by a
// PROXY header, and has all its filters on, with a trained classifier, or off.
func (b *bench) startFilters(ctx context.Context, dns string, on bool) (*ours, error) {
	o, err := b.setUp(ctx)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(o.conf)
	if err != nil {
		return nil, err
	}
	s := string(text)
	for section, keys := range map[string]string{
		"dns":         fmt.Sprintf("servers = [%q]", dns),
		"proxy":       fmt.Sprintf("from = [%q]", balancer+"/32"),
		"limits":      "connection_rate = 1000000\nconnection_rate_network = 1000000",
		"verify":      "enabled = " + strconv.FormatBool(on),
		"spam":        "enabled = " + strconv.FormatBool(on),
		"attachments": "enabled = " + strconv.FormatBool(on),
	} {
		old := regexp.MustCompile(`(?m)^\[` + section + `\]\n([^\[\n].*\n|\n)*`)
		s = old.ReplaceAllString(s, "") + "\n[" + section + "]\n" + keys + "\n"
	}
	if err := os.WriteFile(o.conf, []byte(s), 0o644); err != nil {
		return nil, err
	}
	if on {
		if err := o.train(ctx); err != nil {
			return nil, err
		}
	}
	return o, o.start(ctx)
}

// proven checks that the header of the latest message tells that its sender was verified, and
// what was decided.
func (o *ours) proven() error {
	c, err := dialPOP3(o.pop3, nil)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	n, err := c.login(user(0) + "@" + domain)
	if err != nil {
		return err
	}
	if _, err := c.command("TOP %d 0", n); err != nil {
		return err
	}
	var header strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if line == ".\r\n" {
			break
		}
		header.WriteString(line)
	}
	for _, want := range []string{"spf=pass", "dkim=pass", "dmarc=pass", intake.VerdictField} {
		if !strings.Contains(header.String(), want) {
			return fmt.Errorf("the header of a judged message lacks %s: %s", want, header.String())
		}
	}
	return nil
}

// train teaches the classifier of a server that does not run the corpus.
func (o *ours) train(ctx context.Context) error {
	read, spam, err := letters()
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(o.dir, "data", "*.db"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("find the database in %s: %v %w", o.dir, files, err)
	}
	d, err := db.OpenSQLite(ctx, db.SQLiteConfig{Path: files[0]})
	if err != nil {
		return err
	}
	defer d.Close()
	if err := db.Migrate(ctx, d, []db.Component{classifier.Schema}); err != nil {
		return err
	}
	c, err := classifier.New(classifier.Config{DB: d})
	if err != nil {
		return err
	}
	if err := c.Load(ctx); err != nil {
		return err
	}
	n, err := c.LearnMany(ctx, classifier.Common, func(yield func(classifier.Sample) bool) {
		for i := range read {
			if !yield(classifier.Sample{Features: classifier.FeaturesOf(read[i]), Hash: sha256.Sum256(fmt.Append(nil, i)), Spam: spam[i]}) {
				return
			}
		}
	}, nil)
	if err == nil && n < 400 {
		err = fmt.Errorf("only %d samples to learn", n)
	}
	return err
}
