package quarantine

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/trace"
)

// Note says why a delivery was set apart for one of its local recipients.
type Note struct {
	// Local is the index into Delivery.Locals; its Mailbox is mailbox.Quarantine or mailbox.Junk.
	Local int
	Rule  string // in plain words: verdict.Verdict's Rule
	Score float64
	// Subject is whom the message comes from, as noted in the reputation: zero for what isn't proven.
	Subject reputation.Subject
}

// Within makes Delivery.Within of a delivery: in the transaction that accepts it each Note is kept
// and the fates say that the message was set apart, and by what rule. What d.Within holds already
// runs first. Notes of locals whose Mailbox is another are passed over.
func (r *Room) Within(d *post.Delivery, notes ...Note) func(tx db.Tx) error {
	before, now := d.Within, r.cfg.Now()
	first := make([]int, len(d.Locals)+1) // number of each local's first fate
	for i := range d.Locals {
		first[i+1] = first[i] + len(d.Locals[i].Recipients)
	}
	return func(tx db.Tx) error {
		if before != nil {
			if err := before(tx); err != nil {
				return err
			}
		}
		for i := range notes {
			n := &notes[i]
			if n.Local < 0 || n.Local >= len(d.Locals) {
				return fmt.Errorf("note of what is set apart names local recipient %d of %d", n.Local, len(d.Locals))
			}
			if err := r.note(tx, d, n, first[n.Local], now); err != nil {
				return fmt.Errorf("note what is set apart: %w", err)
			}
		}
		return nil
	}
}

func (r *Room) note(tx db.Tx, d *post.Delivery, n *Note, fate int, now time.Time) error {
	l := &d.Locals[n.Local]
	kind := kindOf(l.Mailbox)
	if kind == "" {
		return nil
	}
	e, err := r.cfg.Mailboxes.Newest(tx, l.Account, l.Mailbox, d.ID)
	if err != nil {
		return err
	}
	row := row{Item: Item{Kind: kind, ID: d.ID, Account: l.Account, Login: l.Login, Number: e.Number, UID: e.UID,
		Rule: cut(n.Rule), Score: n.Score, Noted: now, Sender: plain(d.Envelope.ReversePath)}, subject: n.Subject}
	for i := range l.Recipients {
		row.fates = append(row.fates, fate+i)
	}
	if err := insert(tx, &row); err != nil {
		return err
	}
	if l.State != trace.Quarantined { // else Accept has said so
		if err := r.settle(tx, &row, trace.Quarantined, l.Mailbox+": "+row.Rule, now); err != nil {
			return err
		}
	}
	if r.cfg.Hooks.Noted != nil {
		r.cfg.Hooks.Noted(kind)
	}
	return nil
}

// plain is a reverse-path without brackets.
func plain(p address.ReversePath) string {
	if p.IsNull() {
		return ""
	}
	return p.Address().String()
}

// cut bounds a rule.
func cut(s string) string {
	if len(s) > MaxRuleOctets {
		s = s[:MaxRuleOctets]
	}
	return db.Text(strings.ToValidUTF8(s, ""))
}

// row is a row of set_apart.
type row struct {
	Item
	subject reputation.Subject
	fates   []int
}

const columns = `account, id, login, kind, number, uid, rule, score, noted, told, sender, peer, domain, address, fates`

// scoreUnit: scores are stored as thousandths.
const scoreUnit = 1000

func insert(tx db.Tx, w *row) error {
	peer := ""
	if w.subject.Peer.IsValid() {
		peer = w.subject.Peer.String()
	}
	domain, addr := "", ""
	if !w.subject.Domain.IsZero() {
		domain = w.subject.Domain.String()
	}
	if !w.subject.Address.IsZero() {
		addr = w.subject.Address.String()
	}
	told := int64(0)
	if !w.Told.IsZero() {
		told = db.Micros(w.Told)
	}
	fates := make([]string, len(w.fates))
	for i, n := range w.fates {
		fates[i] = strconv.Itoa(n)
	}
	_, err := tx.Exec(`INSERT INTO set_apart (`+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, id) DO UPDATE SET kind = excluded.kind, number = excluded.number, uid = excluded.uid, rule = excluded.rule, score = excluded.score,
			noted = excluded.noted, told = excluded.told`,
		int64(w.Account), w.ID[:], db.Text(w.Login), string(w.Kind), w.Number, int64(w.UID), cut(w.Rule), int64(math.Round(w.Score*scoreUnit)), db.Micros(w.Noted), told,
		db.Text(w.Sender), peer, domain, db.Text(addr), strings.Join(fates, ","))
	return err
}

func scan(rw db.Row) (row, error) {
	var w row
	var id []byte
	var account, uid, score, noted, told int64
	var kind, peer, domain, addr, fates string
	err := rw.Scan(&account, &id, &w.Login, &kind, &w.Number, &uid, &w.Rule, &score, &noted, &told, &w.Sender, &peer, &domain, &addr, &fates)
	if err != nil {
		return w, err
	}
	if len(id) != len(w.ID) {
		return w, fmt.Errorf("id of %d octets among what is set apart, want %d", len(id), len(w.ID))
	}
	copy(w.ID[:], id)
	w.Account, w.UID, w.Kind, w.Score = accountID(account), mailbox.UID(uid), Kind(kind), float64(score)/scoreUnit
	w.Noted = db.FromMicros(noted)
	if told != 0 {
		w.Told = db.FromMicros(told)
	}
	// What can't be read any more is left out: it only means less to correct.
	w.subject.Peer, _ = netip.ParseAddr(peer)
	if domain != "" {
		w.subject.Domain, _ = address.ParseDomain(domain)
	}
	if addr != "" {
		w.subject.Address, _ = address.Parse(addr)
	}
	for s := range strings.SplitSeq(fates, ",") {
		if n, err := strconv.Atoi(s); err == nil {
			w.fates = append(w.fates, n)
		}
	}
	return w, nil
}
