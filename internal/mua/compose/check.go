package compose

import (
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mua/store"
)

// Kind says what is the matter with a draft, so that a program can say it in any language.
type Kind string

// The kinds.
const (
	BadAddress     Kind = "bad-address"     // Text names it
	NoFrom         Kind = "no-from"         // From is no address
	NoRecipients   Kind = "no-recipients"   // there is nobody to send it to
	NoSubject      Kind = "no-subject"      // the subject is empty
	NoAttachment   Kind = "no-attachment"   // the text speaks of an attachment and there is none
	NoText         Kind = "no-text"         // there is neither text nor attachment
	ManyRecipients Kind = "many-recipients" // many people see each other's address
)

// Problem is something that a person should know before they send.
type Problem struct {
	Kind  Kind   `json:"kind"`
	Field string `json:"field,omitempty"` // From, To, Cc, Bcc, Subject, Text
	Value string `json:"value,omitempty"` // the address it is about
	Text  string `json:"text"`            // in English, a sentence
	Fatal bool   `json:"fatal,omitempty"` // it can't be sent like that
}

// visible is how many people in To and Cc are many.
const visible = 25

// Check says what a person should know before they send.
func (d *Draft) Check() []Problem {
	var all []Problem
	if _, err := address.Parse(d.From.Address); err != nil {
		all = append(all, Problem{Kind: NoFrom, Field: "From", Value: d.From.Address, Text: "The letter needs your own address in From.", Fatal: true})
	}
	for _, f := range []struct {
		name string
		list []store.Address
	}{{"Reply-To", d.ReplyTo}, {"To", d.To}, {"Cc", d.Cc}, {"Bcc", d.Bcc}} {
		for _, p := range f.list {
			if _, err := address.Parse(p.Address); err != nil {
				all = append(all, Problem{Kind: BadAddress, Field: f.name, Value: p.Address, Fatal: true,
					Text: fmt.Sprintf("%q is no e-mail address: one looks like name@example.org.", p.Address)})
			}
		}
	}
	if len(d.To)+len(d.Cc)+len(d.Bcc) == 0 {
		all = append(all, Problem{Kind: NoRecipients, Field: "To", Text: "Nobody is named who should get the letter.", Fatal: true})
	}
	if n := len(d.To) + len(d.Cc); n > visible {
		all = append(all, Problem{Kind: ManyRecipients, Field: "To", Text: fmt.Sprintf("%d people will see each other's addresses; in Bcc they would not.", n)})
	}
	if strings.TrimSpace(d.Subject) == "" {
		all = append(all, Problem{Kind: NoSubject, Field: "Subject", Text: "The letter has no subject."})
	}
	own := ownText(d.Text)
	switch {
	case len(d.Attachments) > 0:
	case strings.TrimSpace(own) == "" && !strings.Contains(d.Text, ">"):
		all = append(all, Problem{Kind: NoText, Field: "Text", Text: "The letter is empty."})
	case speaksOfAttachment(own):
		all = append(all, Problem{Kind: NoAttachment, Field: "Text", Text: "The text speaks of an attachment, but there is none."})
	}
	return all
}

// ownText is what the person has written: without quotes, attribution and signature.
func ownText(text string) string {
	var b strings.Builder
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if line == "-- " {
			break
		}
		if strings.HasPrefix(line, ">") || i+1 < len(lines) && strings.HasPrefix(lines[i+1], ">") && strings.HasSuffix(line, ":") {
			continue
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// attachmentWords are words by which people promise an attachment, in English and Polish.
var attachmentWords = []string{"attached", "attachment", "enclosed", "enclosure", "załącz", "zalacz", "w załączeniu", "przesyłam plik", "dołączam"}

func speaksOfAttachment(text string) bool {
	text = strings.ToLower(text)
	for _, w := range attachmentWords {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
