package page

import (
	"encoding/json"
	"time"

	"poczta.example/poczta/internal/mua/store"
)

// addresses completes an address from those who wrote and were written to.
func (v *visit) addresses() error {
	people, err := v.p.cfg.Store.Addresses(v.r.Context(), v.r.URL.Query().Get("q"), 8)
	if err != nil {
		return err
	}
	found := []string{}
	for _, p := range people {
		found = append(found, typed([]store.Address{p.Address}))
	}
	v.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(v.w).Encode(found)
}

// peopleView is the address book.
type peopleView struct {
	frame
	Text   string
	People []personView
}

type personView struct {
	Name, Address, Last, Machine string
	Sent, Received               int64
}

// book shows the address book.
func (v *visit) book() error {
	f, err := v.full(v.t.People, "people", where{})
	if err != nil {
		return err
	}
	view := peopleView{frame: f, Text: v.r.URL.Query().Get("q")}
	people, err := v.p.cfg.Store.Addresses(v.r.Context(), view.Text, 200)
	if err != nil {
		return err
	}
	for _, p := range people {
		at := p.Last.In(v.p.cfg.Zone)
		view.People = append(view.People, personView{p.Name, p.Address.Address, v.t.short(at, v.p.cfg.Now().In(v.p.cfg.Zone)), at.Format(time.RFC3339), p.Sent, p.Received})
	}
	return v.show("people.html", view)
}
