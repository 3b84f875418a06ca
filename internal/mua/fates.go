package mua

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/store"
)

// fates are what became of a letter that was sent from here; nothing for others.
func (d *Desk) fates(ctx context.Context, s store.Summary) ([]outbox.Fate, error) {
	if s.Folder != store.Sent {
		return nil, nil
	}
	list, err := d.Mail.Outbox.Fates(ctx, s.MessageID)
	if err != nil {
		return nil, fmt.Errorf("look what became of letter %d: %w", s.ID, err)
	}
	return list, nil
}

// fateText says what became of a recipient's copy, a line for each word on it.
func (d *Desk) fateText(f outbox.Fate) []string {
	lines := []string{f.Address + ": " + f.Words(d.Language)}
	words := map[dsn.Action]string{
		dsn.Failed:    choose(d.Language, "It could not be delivered", "Nie udało się jej dostarczyć"),
		dsn.Delayed:   choose(d.Language, "It is late", "Opóźnia się"),
		dsn.Delivered: choose(d.Language, "It was delivered", "Została dostarczona"),
		dsn.Relayed:   choose(d.Language, "It was passed on to a server that reports nothing more", "Została przekazana serwerowi, który niczego więcej nie zgłosi"),
		dsn.Expanded:  choose(d.Language, "It was passed on to the members of a list", "Została przekazana członkom listy"),
	}
	for _, r := range f.Reports {
		lines = append(lines, fmt.Sprintf(choose(d.Language, "%s: %s, says letter %d: %s %s", "%s: %s, mówi list %d: %s %s"), f.Address, words[r.Action], r.Letter, r.Status, r.Diagnostic))
	}
	return lines
}
