package dmarcreport

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/feedback"
)

// Row is a verified message, as a report tells of it.
type Row struct {
	Result       dmarc.Result
	Source       netip.Addr     // the host that delivered
	From         address.Domain // of the From field
	EnvelopeFrom address.Domain // of the reverse-path; zero when that is null
	// Disposition is what became of the message because of the policy; it counts for those that failed.
	Disposition dmarc.Policy
	// Reasons say why it is not the policy: "local_policy", "mailing_list", "trusted_forwarder" or "other". That of t=y or
	// pct need not be given; without any, it is "local_policy".
	Reasons []feedback.Reason
	DKIM    []feedback.DKIMResult // what each signature came to; at most ten are told
	SPF     []feedback.SPFResult
	// Report says that the message is a report itself, as mail to the address of reports is. It is
	// not counted: two hosts would write each other for ever.
	Report bool
}

// detail is all that a report tells of a message, in a fixed form.
type detail struct {
	Policy feedback.Published `json:"policy"`
	Record feedback.Record    `json:"record"`
}

type digest [16]byte

// key is a primary key of dmarc_count.
type key struct {
	day    int64
	domain string
	hash   digest
}

// tally is how often, and the detail in JSON.
type tally struct {
	messages int64
	detail   string
}

// maxSignatures bounds the results of DKIM that are told of one message.
const maxSignatures = 10

// Note counts a message, if its domain publishes a policy that asks for reports. It
// only touches memory; Run writes. What is noted within the last half minute before a crash is
// lost, which costs a report its exactness and nothing else.
func (r *Reports) Note(row Row) {
	res := row.Result
	if r.cfg.NoSending || row.Report || !row.Source.IsValid() || res.Record == nil || len(res.Record.Aggregate) == 0 || res.Status != dmarc.Pass && res.Status != dmarc.Fail {
		return
	}
	day, domain := Day(r.cfg.Now()), res.PolicyDomain.String()
	d := r.detail(row)
	r.mu.Lock()
	if day > r.day {
		r.day = day
		clear(r.sorts)
		clear(r.domains)
	}
	counted := r.add(day, domain, d)
	full := len(r.counts) >= batchRows
	r.mu.Unlock()
	if !counted && r.cfg.Hooks.Dropped != nil {
		r.cfg.Hooks.Dropped()
	}
	if full {
		select {
		case r.kick <- struct{}{}:
		default:
		}
	}
}

// add counts a message under its detail; under less of it where a domain, or all of them, have too many
// sorts of messages already. The caller holds mu.
func (r *Reports) add(day int64, domain string, d detail) bool {
	for _, less := range []func(){
		func() {},
		func() {
			d.Record.AuthDKIM, d.Record.AuthSPF, d.Record.EnvelopeFrom, d.Record.Reasons = nil, nil, "", nil
		},
		func() { d.Record.HeaderFrom = domain },
	} {
		less()
		text, err := json.Marshal(d)
		if err != nil {
			return false
		}
		sum := sha256.Sum256(append([]byte(domain+"\n"), text...))
		k := key{day: day, domain: domain, hash: digest(sum[:16])}
		if t := r.counts[k]; t != nil {
			t.messages++
			return true
		}
		_, known := r.sorts[k.hash]
		room := len(r.sorts) < maxSorts && r.domains[domain] < maxDomain
		if (known || room) && len(r.counts) < maxPending {
			if !known {
				r.sorts[k.hash] = struct{}{}
				r.domains[domain]++
			}
			r.counts[k] = &tally{messages: 1, detail: string(text)}
			return true
		}
	}
	return false
}

// detail is what a report tells of a row.
func (r *Reports) detail(row Row) detail {
	res, rec := row.Result, row.Result.Record
	d := detail{Policy: published(res.PolicyDomain, rec, r.cfg.Policies.Mode()), Record: feedback.Record{
		Source: row.Source.WithZone("").Unmap(), Count: 1, Disposition: row.Disposition.String(), DKIM: outcome(res.AlignedDKIM), SPF: outcome(res.AlignedSPF),
		EnvelopeFrom: row.EnvelopeFrom.String(), HeaderFrom: row.From.String(),
		Reasons: row.Reasons, AuthDKIM: signatures(row), AuthSPF: row.SPF[:min(len(row.SPF), maxSignatures)],
	}}
	if res.Status == dmarc.Pass {
		d.Record.Disposition = "pass"
	}
	own := feedback.Reason{}
	switch {
	case res.Testing:
		own.Type = "policy_test_mode"
	case res.SampledOut:
		own.Type = "sampled_out"
	}
	if own.Type == "" && len(row.Reasons) == 0 && res.Status == dmarc.Fail && row.Disposition != res.Policy {
		own.Type = "local_policy" // RFC 9990: a reason must stand there
	}
	if own.Type != "" {
		d.Record.Reasons = append([]feedback.Reason{own}, row.Reasons...)
	}
	return d
}

// signatures are those that are told, those that say most first (RFC 9990): which pass for From's domain,
// for its organization, for others, and which do not pass.
func signatures(row Row) []feedback.DKIMResult {
	from, org := row.From.String(), row.Result.PolicyDomain.String()
	rank := func(d feedback.DKIMResult) int {
		switch {
		case d.Result != "pass":
			return 3
		case d.Domain == from:
			return 0
		case d.Domain == org || strings.HasSuffix(d.Domain, "."+org):
			return 1
		}
		return 2
	}
	out := slices.Clone(row.DKIM)
	slices.SortStableFunc(out, func(a, b feedback.DKIMResult) int { return rank(a) - rank(b) })
	return out[:min(len(out), maxSignatures)]
}

func outcome(aligned bool) string {
	if aligned {
		return "pass"
	}
	return "fail"
}

// published is a policy as reports show it.
func published(domain address.Domain, rec *dmarc.Record, mode dmarc.Mode) feedback.Published {
	p := feedback.Published{Domain: domain.String(), Policy: rec.Policy.String(), Options: rec.Options, DKIM: alignment(rec.StrictDKIM), SPF: alignment(rec.StrictSPF)}
	if rec.Given.SP || mode == dmarc.RFC7489 { // its schema has no way to leave sp out
		p.Subdomain = rec.Subdomain.String()
	}
	if mode == dmarc.RFC7489 {
		b, _ := json.Marshal(rec.Percent)
		p.Percent, p.Discovery = string(b), "psl"
		return p
	}
	if rec.Given.NP {
		p.NonExistent = rec.NonExistent.String()
	}
	p.Testing, p.Discovery = rec.Testing, "treewalk"
	return p
}

func alignment(strict bool) string {
	if strict {
		return "s"
	}
	return "r"
}

// Flush writes what Note has noted until a batch is not full: what comes in meanwhile may wait for
// the next call, as does what could not be written.
func (r *Reports) Flush(ctx context.Context) error {
	for {
		counts := r.batch()
		if len(counts) == 0 {
			return nil
		}
		err := r.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error { return write(tx, counts) })
		if err != nil {
			if !errors.Is(err, db.ErrUnknownOutcome) {
				r.putBack(counts)
			}
			return err
		}
		if len(counts) < batchRows {
			return nil
		}
	}
}

// batch takes some of what waits.
func (r *Reports) batch() map[key]*tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[key]*tally{}
	for k, v := range r.counts {
		if len(out) == batchRows {
			break
		}
		out[k] = v
		delete(r.counts, k)
	}
	return out
}

func (r *Reports) putBack(counts map[key]*tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, v := range counts {
		if t := r.counts[k]; t != nil {
			t.messages += v.messages
		} else {
			r.counts[k] = v
		}
	}
}

func write(tx db.Tx, counts map[key]*tally) error {
	order := func(a, b key) int { // rows are locked in one order by all nodes
		return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.domain, b.domain), slices.Compare(a.hash[:], b.hash[:]))
	}
	for _, k := range slices.SortedFunc(maps.Keys(counts), order) {
		t := counts[k]
		_, err := tx.Exec(`INSERT INTO dmarc_count (day, domain, hash, detail, messages) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (day, domain, hash) DO UPDATE SET messages = dmarc_count.messages + excluded.messages`,
			k.day, k.domain, hex.EncodeToString(k.hash[:]), db.Text(t.detail), t.messages)
		if err != nil {
			return err
		}
	}
	return nil
}
