package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/resolver"
)

// KeyRow is a DKIM key in lists: its public side.
type KeyRow struct {
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`
	Stage     string `json:"stage"` // prepared, published, active, retired, removed
	Name      string `json:"name"`  // of the TXT record
	Record    string `json:"record"`
	Created   string `json:"created"`
	Published string `json:"published,omitempty"`
	Activated string `json:"activated,omitempty"`
	Retired   string `json:"retired,omitempty"`
	Removed   string `json:"removed,omitempty"`
}

func keyRow(k keys.Key) KeyRow {
	return KeyRow{Selector: k.Selector, Algorithm: string(k.Algorithm), Stage: k.Stage.String(), Name: k.Name(), Record: k.Record,
		Created: stamp(k.Created), Published: stamp(k.Published), Activated: stamp(k.Activated), Retired: stamp(k.Retired), Removed: stamp(k.Removed)}
}

func keyRows(all []keys.Key) []KeyRow {
	rows := make([]KeyRow, 0, len(all))
	for _, k := range all {
		rows = append(rows, keyRow(k))
	}
	return rows
}

// KeyRecords are the DNS records of a domain's keys, with what each is for. That of
// a removed key is the one that revokes it: it may be deleted as well.
func KeyRecords(all []keys.Key) []RecordRow {
	why := map[keys.Stage]string{
		keys.Prepared:  "a new key for signatures waits for this record (DKIM)",
		keys.Published: "others check our signatures with it (DKIM); the key will sign soon",
		keys.Active:    "others check our signatures with it (DKIM)",
		keys.Retired:   "the key signs no more; keep the record for mail on its way (DKIM)",
		keys.Removed:   "the key is not used any more: delete its record, or replace it by this one, which revokes the key (DKIM)",
	}
	var rows []RecordRow
	for _, k := range all {
		record := k.Record
		if k.Stage == keys.Removed {
			record = "v=DKIM1; k=" + string(k.Algorithm) + "; p="
		}
		rows = append(rows, RecordRow{k.Name() + ".", "TXT", quoteTXT(record), why[k.Stage]})
	}
	return rows
}

// maxString is how long one string of a TXT record may be (RFC 1035 §3.3).
const maxString = 255

// quoteTXT writes a text as the strings of a TXT record in a zone file.
func quoteTXT(s string) string {
	var parts []string
	for piece := range slices.Chunk([]byte(s), maxString) {
		parts = append(parts, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(piece))+`"`)
	}
	return strings.Join(parts, " ")
}

// createKeys gives a domain its first keys, unless nothing is to be signed.
func (d *Desk) createKeys(ctx context.Context, domain address.Domain) ([]keys.Key, error) {
	if !d.Rooms.Config.DKIM.Sign {
		return nil, nil
	}
	all, err := d.Rooms.Keys.Create(ctx, domain)
	if err != nil {
		return nil, fmt.Errorf("%s is served, but has no signing keys: %w; run poczta domain rotate %s", domain.Unicode(), err, domain)
	}
	return all, nil
}

// DomainOpen begins to serve a domain that may be served already, and gives it
// keys if it has none. It returns its DNS records.
func (d *Desk) DomainOpen(ctx context.Context, domain address.Domain) ([]RecordRow, error) {
	known, err := d.Rooms.Accounts.IsLocal(ctx, domain)
	if err != nil {
		return nil, fmt.Errorf("look up domain %s: %w", domain, err)
	}
	if !known {
		if err := d.Rooms.Accounts.AddDomain(ctx, domain); err != nil {
			return nil, explain(err, "add domain "+domain.String())
		}
	}
	all, err := d.createKeys(ctx, domain)
	return append(Records(domain, d.Rooms.Config), KeyRecords(all)...), err
}

// openDomains gives keys to the domains that have none, after an import.
func (d *Desk) openDomains(ctx context.Context) error {
	domains, err := d.Rooms.Accounts.Domains(ctx)
	if err != nil {
		return explain(err, "list domains")
	}
	for _, x := range domains {
		if _, err := d.createKeys(ctx, x.Name); err != nil {
			return err
		}
	}
	return nil
}

// local reads the name of a domain that is served here.
func (d *Desk) local(ctx context.Context, name string) (address.Domain, error) {
	domain, err := parseDomain(name)
	if err != nil {
		return domain, err
	}
	local, err := d.Rooms.Accounts.IsLocal(ctx, domain)
	if err != nil {
		return domain, explain(err, "look up domain "+name)
	}
	if !local {
		return domain, fmt.Errorf("%s is not served here; add it with poczta domain add %s", domain.Unicode(), domain)
	}
	return domain, nil
}

// DomainRotate changes the signing keys of a domain by one step and says what to do next.
func (d *Desk) DomainRotate(ctx context.Context, name string, force bool) error {
	domain, err := d.local(ctx, name)
	if err != nil {
		return err
	}
	if !d.Rooms.Config.DKIM.Sign {
		return fmt.Errorf("%s has no use for keys: dkim.sign is false in the configuration; change it and restart the server", domain.Unicode())
	}
	all, err := d.Rooms.Keys.Rotate(ctx, domain, force)
	if err != nil {
		return explain(err, "")
	}
	if d.JSON {
		return table(d, keyRows(all), "", nil)
	}
	fmt.Fprint(d.Out, zoneText(KeyRecords(all)), "\n")
	has := func(s keys.Stage) bool {
		return slices.ContainsFunc(all, func(k keys.Key) bool { return k.Stage == s })
	}
	switch {
	case has(keys.Prepared):
		d.say("Add the records of the new keys. The server looks at DNS every ten minutes, and signs with them an hour after it has seen them.")
		d.say("To sign with them as soon as they are in DNS, run poczta domain rotate %s again.", domain)
	case has(keys.Retired):
		d.say("%s is signed with the new keys now. Keep the records of the old ones; poczta domain dns %s tells when they may be deleted.", domain.Unicode(), domain)
	default:
		d.say("%s is signed with these keys now; others can check that as soon as the records are in DNS.", domain.Unicode())
	}
	return nil
}

// CheckKeys compares the keys of domains with what DNS shows.
func CheckKeys(ctx context.Context, r resolver.Resolver, domains []DomainRow) []Finding {
	var out []Finding
	for _, d := range domains {
		name, err := address.ParseDomain(d.Domain)
		if err != nil {
			continue
		}
		if !slices.ContainsFunc(d.DKIM, func(k KeyRow) bool { return k.Stage == keys.Active.String() }) {
			out = append(out, Finding{Level: Warning, Area: "dkim", Text: "mail from " + d.Domain + " leaves unsigned: the domain has no key",
				Remedy: "run poczta domain rotate " + d.Domain})
		}
		for _, k := range d.DKIM {
			found, err := keys.Look(ctx, keys.DNS{Resolver: r}, name, k.Selector, k.Record)
			if f := keyFinding(d.Domain, k, found, err); f.Text != "" {
				out = append(out, f)
			}
		}
	}
	return out
}

// keyFinding judges what DNS shows of one key.
func keyFinding(domain string, k KeyRow, found keys.Finding, err error) Finding {
	f := Finding{Level: Warning, Area: "dkim", Remedy: "the record is printed by poczta domain dns " + domain}
	removed := k.Stage == keys.Removed.String()
	switch {
	case found == keys.Unknown:
		f.Text, f.Remedy = fmt.Sprintf("%s: not known, since DNS gave no answer (%v)", k.Name, err), "check dns.servers, then run poczta check again"
	case removed && (found == keys.Missing || found == keys.Revoked):
		return Finding{}
	case removed:
		f.Text, f.Remedy = k.Name+" is not used any more", "delete its TXT record"
	case found == keys.Same:
		f.Level, f.Text = Fine, fmt.Sprintf("%s is in DNS (%s key, %s)", k.Name, k.Algorithm, k.Stage)
	case found == keys.Missing:
		f.Text = fmt.Sprintf("%s is missing in DNS (%s key, %s)", k.Name, k.Algorithm, k.Stage)
	case k.Stage == keys.Active.String(): // worse than no signature: it fails
		f.Level = Failed
		fallthrough
	default:
		f.Text = fmt.Sprintf("%s is %s in DNS (%s key, %s)", k.Name, found, k.Algorithm, k.Stage)
		if err != nil {
			f.Text += ": " + err.Error()
		}
	}
	return f
}

// keysByDomain lists all keys by their domain.
func (d *Desk) keysByDomain(ctx context.Context) (map[address.Domain][]keys.Key, error) {
	all, err := d.Rooms.Keys.List(ctx, address.Domain{})
	if err != nil {
		return nil, err
	}
	by := map[address.Domain][]keys.Key{}
	for _, k := range all {
		by[k.Domain] = append(by[k.Domain], k)
	}
	return by, nil
}

// keySummary is a domain's active keys in one word.
func keySummary(rows []KeyRow) string {
	var words []string
	for _, k := range rows {
		if k.Stage == keys.Active.String() && !slices.Contains(words, k.Algorithm) {
			words = append(words, k.Algorithm)
		}
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, "+")
}
