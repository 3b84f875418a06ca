package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mua/store/search"
)

// Person is somebody of the address book, which makes itself of the letters that came and went.
type Person struct {
	Address
	Sent     int64     // letters sent to them
	Received int64     // letters from them
	Last     time.Time // date of the newest of either
}

// countPeople adds the people of letters that were indexed for the first time.
func countPeople(tx db.Tx, batch []todo) error {
	people := make(map[string]*Person)
	for i := range batch {
		t := &batch[i]
		if !t.done || t.counted {
			continue
		}
		all := t.head.from
		if t.sent {
			all = t.head.all
		}
		for _, a := range all {
			key := strings.ToLower(a.Address)
			if key == "" {
				continue
			}
			p := people[key]
			if p == nil {
				p = &Person{Address: Address{Address: key}}
				people[key] = p
			}
			if t.sent {
				p.Sent++
			} else {
				p.Received++
			}
			if date := db.FromMicros(t.date); !date.Before(p.Last) {
				p.Last = date
				if a.Name != "" {
					p.Name = a.Name
				}
			} else if p.Name == "" {
				p.Name = a.Name
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(people)) {
		if err := addPerson(tx, people[key]); err != nil {
			return fmt.Errorf("add to the address book: %w", err)
		}
	}
	return nil
}

// maxPersonWords bounds by how many words a person is found.
const maxPersonWords = 12

func addPerson(tx db.Tx, p *Person) error {
	_, err := tx.Exec(`INSERT INTO person (address, name, sent, received, last) VALUES (?, ?, ?, ?, ?) ON CONFLICT (address) DO UPDATE SET
		name = CASE WHEN excluded.name <> '' AND (excluded.last >= last OR name = '') THEN excluded.name ELSE name END,
		sent = sent + excluded.sent, received = received + excluded.received, last = MAX(last, excluded.last)`,
		p.Address.Address, p.Name, p.Sent, p.Received, db.Micros(p.Last))
	if err != nil {
		return err
	}
	words := search.Words(p.Address.Address + " " + p.Name)
	for _, w := range words[:min(len(words), maxPersonWords)] {
		if _, err := tx.Exec(`INSERT INTO person_word (word, address) VALUES (?, ?) ON CONFLICT DO NOTHING`, w, p.Address.Address); err != nil {
			return err
		}
	}
	return nil
}

// afterAll sorts behind every word that begins alike.
const afterAll = "\U0010FFFF"

// maxPeople bounds how many people with a common beginning are compared.
const maxAlikePeople = 5000

// Addresses finds people of whose name or address words begin as each word of prefix does; with ""
// all. Those who were written to most come first, then those who wrote most. limit 0 is 10.
func (s *Store) Addresses(ctx context.Context, prefix string, limit int) ([]Person, error) {
	if limit <= 0 {
		limit = 10
	}
	query, args := `SELECT address, name, sent, received, last FROM person p`, []any(nil)
	words := search.Words(cut(prefix, 1000))
	for i, w := range words[:min(len(words), 5)] {
		if i == 0 {
			query = `SELECT p.address, p.name, p.sent, p.received, p.last FROM (SELECT DISTINCT address FROM person_word WHERE word >= ? AND word < ? LIMIT ?) a JOIN person p ON p.address = a.address WHERE 1`
			args = append(args, w, w+afterAll, int64(maxAlikePeople))
			continue
		}
		query += ` AND EXISTS (SELECT 1 FROM person_word w WHERE w.word >= ? AND w.word < ? AND w.address = p.address)`
		args = append(args, w, w+afterAll)
	}
	if len(words) == 0 && strings.TrimSpace(prefix) != "" {
		return nil, nil // nothing that is a word
	}
	var all []Person
	err := s.view(ctx, func(tx db.Tx) error {
		all = all[:0]
		rows, err := tx.Query(query+` ORDER BY p.sent DESC, p.received DESC, p.last DESC, p.address LIMIT ?`, append(args, int64(limit))...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p Person
			var last int64
			if err := rows.Scan(&p.Address.Address, &p.Name, &p.Sent, &p.Received, &last); err != nil {
				return err
			}
			p.Last = db.FromMicros(last)
			all = append(all, p)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("look into the address book: %w", err)
	}
	return all, nil
}
