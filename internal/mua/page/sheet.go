package page

import (
	"strconv"
	"strings"

	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/store"
)

// writeView is the page on which a letter is written.
type writeView struct {
	frame
	Heading                   string
	Draft                     store.LetterID
	Reply, Forward            store.LetterID // what it answers or passes on, until it is a draft
	All, Attached             bool
	Senders                   []sender
	To, Cc, Bcc, Subject, Txt string
	Files                     []fileView
	Problems                  []string
	Anyway                    bool // only what may be passed over stands in Problems
	At                        string
	Notify                    bool
	Focus                     string
}

// sender is an address that may be written from.
type sender struct {
	Value, Text string
	Current     bool
}

// sheet is the page with the form for a draft.
func (v *visit) sheet(d *compose.Draft, w wish) (*writeView, error) {
	f, err := v.full(v.t.NewLetter, "write", where{Folder: store.Inbox})
	if err != nil {
		return nil, err
	}
	view := &writeView{frame: f, Draft: w.draft, Reply: w.reply, Forward: w.forward, All: w.all, Attached: w.attached, Heading: v.t.NewLetter,
		To: typed(d.To), Cc: typed(d.Cc), Bcc: typed(d.Bcc), Subject: d.Subject, Txt: d.Text, Focus: "to"}
	switch {
	case w.reply != 0 && w.all:
		view.Heading, view.Focus = v.t.ReplyAll, "text"
	case w.reply != 0:
		view.Heading, view.Focus = v.t.Reply, "text"
	case w.forward != 0:
		view.Heading = v.t.Forward
	case d.Subject != "":
		view.Heading = d.Subject
	}
	if len(d.To) > 0 && w.reply == 0 {
		view.Focus = "text"
	}
	view.Title = view.Heading
	accounts, err := v.writers()
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		for _, addr := range append([]string{a.Address}, a.Aliases...) {
			s := sender{Value: strconv.FormatInt(int64(a.ID), 10) + " " + addr, Text: typed([]store.Address{{Name: a.Name, Address: addr}})}
			s.Current = a.ID == d.Account && strings.EqualFold(addr, d.From.Address)
			view.Senders = append(view.Senders, s)
		}
	}
	for i, a := range d.Attachments {
		file := fileView{Name: a.Name, Type: a.Type, URL: strconv.Itoa(i)}
		if a.Octets >= 0 {
			file.Size = size(counted(a.Octets, a.Open))
		}
		view.Files = append(view.Files, file)
	}
	return view, nil
}

// typed writes addresses as a person types them.
func typed(all []store.Address) string {
	var out []string
	for _, a := range all {
		if a.Name == "" {
			out = append(out, a.Address)
			continue
		}
		name := a.Name
		if strings.ContainsAny(name, `",;<>()@:\`) {
			name = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
		}
		out = append(out, name+" <"+a.Address+">")
	}
	return strings.Join(out, ", ")
}
