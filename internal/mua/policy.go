package mua

import (
	"context"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
)

// briefly writes a time without the parts that are nothing: 5m, not 5m0s.
func briefly(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// policyText says in sentences what becomes of mail on the server.
func policyText(p profile.Policy, language string) string {
	var text []string
	switch p.Keep {
	case profile.Days:
		text = append(text, fmt.Sprintf(choose(language, "Mail is deleted on the server once it has been here for %d days.", "Poczta jest usuwana z serwera, gdy leży tu od %d dni."), p.Days))
	case profile.Fetched:
		text = append(text, choose(language, "Mail is deleted on the server once it is here.", "Poczta jest usuwana z serwera, gdy już tu leży."))
	default:
		text = append(text, choose(language, "Everything stays on the server.", "Wszystko zostaje na serwerze."))
	}
	if p.Follow {
		text = append(text, choose(language, "What you delete here for good is deleted there, too.", "Co usuniesz tu na zawsze, jest usuwane i tam."))
	}
	if p.HeadersAbove > 0 {
		text = append(text, fmt.Sprintf(choose(language, "Of letters over %s only the header section comes, until you read them.", "Z listów powyżej %s przychodzi tylko nagłówek, dopóki ich nie otworzysz."), size(p.HeadersAbove)))
	}
	return strings.Join(text, " ")
}

func keepText(p profile.Policy) string {
	text := string(p.Keep)
	if p.Keep == profile.Days {
		text = fmt.Sprintf("days:%d", p.Days)
	}
	if p.Follow {
		text += ", follow"
	}
	if p.HeadersAbove > 0 {
		text += ", headers above " + size(p.HeadersAbove)
	}
	return text
}

// PolicyChange is what Policy changes; nil leaves a thing as it is.
type PolicyChange struct {
	Keep         string // "", leave, fetched, days:N
	Follow       *bool
	HeadersAbove *int64
	Every        *time.Duration
	Paused       *bool
}

// Apply changes a policy.
func (c PolicyChange) Apply(p *profile.Policy) error {
	switch {
	case c.Keep == "":
	case c.Keep == string(profile.Leave) || c.Keep == string(profile.Fetched):
		p.Keep, p.Days = profile.Keep(c.Keep), 0
	default:
		var rest string
		if n, err := fmt.Sscanf(c.Keep, "days:%d%s", &p.Days, &rest); n != 1 || err == nil {
			return fmt.Errorf("%w: --keep %q; say leave, days:N or fetched", ErrUsage, c.Keep)
		}
		p.Keep = profile.Days
	}
	if c.Follow != nil {
		p.Follow = *c.Follow
	}
	if c.HeadersAbove != nil {
		p.HeadersAbove = *c.HeadersAbove
	}
	if c.Every != nil {
		if *c.Every != 0 && *c.Every < fetch.LeastEvery {
			return fmt.Errorf("%w: --every %s is too often for servers; say %s or more", ErrUsage, *c.Every, fetch.LeastEvery)
		}
		p.Every = int(*c.Every / time.Second)
	}
	return nil
}

// Policy shows or changes how an account's mail is fetched.
func (d *Desk) Policy(ctx context.Context, who string, c PolicyChange) error {
	a, err := d.served(ctx, who)
	if err != nil {
		return err
	}
	if err := c.Apply(&a.Policy); err != nil {
		return err
	}
	if c.Paused != nil {
		a.Paused = *c.Paused
	}
	if c != (PolicyChange{}) {
		if err := a.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrUsage, err)
		}
		if err := d.Mail.Accounts.Update(ctx, a); err != nil {
			return err
		}
	}
	if d.JSON {
		return d.encode(a.Policy)
	}
	every := fetch.DefaultEvery
	if a.Policy.Every > 0 {
		every = time.Duration(a.Policy.Every) * time.Second
	}
	looks := fmt.Sprintf(d.choose("poczta mail sync --watch and open look every %s.", "poczta mail sync --watch i open sprawdzają co %s."), briefly(every))
	if a.Paused {
		looks = d.choose("It is not fetched by itself; --resume changes that.", "Konto nie jest pobierane samo z siebie; --resume to zmienia.")
	}
	d.say("%s: %s %s", a.Address, policyText(a.Policy, d.Language), looks)
	return nil
}
