package page

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// noun is something that is counted.
type noun int

// What is counted.
const (
	nounLetter noun = iota
	nounImage
	nounTracker
	nounLink
	nounUnread
	nounThread
)

// englishCount says how many there are.
func englishCount(n int, what noun) string {
	forms := map[noun][2]string{
		nounLetter:  {"%d letter", "%d letters"},
		nounImage:   {"%d remote image was not loaded.", "%d remote images were not loaded."},
		nounTracker: {"%d of them only watches whether you read.", "%d of them only watch whether you read."},
		nounLink:    {"%d link names another host than it leads to; where is shown behind it.", "%d links name another host than they lead to; where is shown behind them."},
		nounUnread:  {"%d unread", "%d unread"},
		nounThread:  {"%d letter in this conversation", "%d letters in this conversation"},
	}[what]
	if n == 1 {
		return fmt.Sprintf(forms[0], n)
	}
	return fmt.Sprintf(forms[1], n)
}

// polishCount says it in Polish, which has three forms: 1; 2–4 but not 12–14; the others.
func polishCount(n int, what noun) string {
	forms := map[noun][3]string{
		nounLetter:  {"%d list", "%d listy", "%d listów"},
		nounImage:   {"%d obrazka z sieci nie wczytano.", "%d obrazków z sieci nie wczytano.", "%d obrazków z sieci nie wczytano."},
		nounTracker: {"%d z nich tylko śledzi, czy czytasz.", "%d z nich tylko śledzą, czy czytasz.", "%d z nich tylko śledzi, czy czytasz."},
		nounLink: {"%d odnośnik podaje inny serwer niż ten, do którego prowadzi; pokazano go za nim.", "%d odnośniki podają inny serwer niż ten, do którego prowadzą; pokazano go za nimi.",
			"%d odnośników podaje inny serwer niż ten, do którego prowadzi; pokazano go za nimi."},
		nounUnread: {"%d nieprzeczytany", "%d nieprzeczytane", "%d nieprzeczytanych"},
		nounThread: {"%d list w tej rozmowie", "%d listy w tej rozmowie", "%d listów w tej rozmowie"},
	}[what]
	switch last, teen := n%10, n%100/10 == 1; {
	case n == 1:
		return fmt.Sprintf(forms[0], n)
	case last >= 2 && last <= 4 && !teen:
		return fmt.Sprintf(forms[1], n)
	}
	return fmt.Sprintf(forms[2], n)
}

// months are names of months as they stand in a date.
type months [12]string

var (
	englishMonths = months{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}
	polishMonths  = months{"sty", "lut", "mar", "kwi", "maj", "cze", "lip", "sie", "wrz", "paź", "lis", "gru"}
)

// short is a time as lists show it: the hour today, the day this year, else the date.
func (t *words) short(at, now time.Time) string {
	switch y, m, d := at.Date(); {
	case at.IsZero():
		return ""
	case y == now.Year() && at.YearDay() == now.YearDay():
		return at.Format("15:04")
	case y == now.Year() && !at.After(now):
		return fmt.Sprintf("%d %s", d, t.dates[m-1])
	}
	return at.Format("2006-01-02")
}

// long is a time as a letter's head shows it.
func (t *words) long(at time.Time) string {
	y, m, d := at.Date()
	return fmt.Sprintf("%d %s %d, %s", d, t.dates[m-1], y, at.Format("15:04"))
}

// size is octets for people.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%d kB", (n+500)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// folder is a folder's name for people.
func (t *words) folder(name string) string {
	if s, ok := map[string]string{"": t.AllLetters, "INBOX": t.Inbox, "Drafts": t.Drafts, "Sent": t.Sent, "Archive": t.Archive, "Junk": t.Junk, "Trash": t.Trash}[name]; ok {
		return s
	}
	return strings.ReplaceAll(name, "/", " / ")
}

// Names of the cookies of what a person prefers.
const (
	langCookie  = "poczta-lang"
	themeCookie = "poczta-theme"
	keysCookie  = "poczta-keys"
)

var matcher = language.NewMatcher([]language.Tag{language.English, language.Polish})

// wordsFor chooses the language: by the person's switch, else by what the browser asks for.
func wordsFor(r *http.Request) *words {
	wish := r.Header.Get("Accept-Language")
	if c, err := r.Cookie(langCookie); err == nil {
		wish = c.Value
	}
	tags, _, err := language.ParseAcceptLanguage(wish[:min(len(wish), 200)])
	if err != nil {
		return &english
	}
	if _, i, _ := matcher.Match(tags...); i == 1 {
		return &polish
	}
	return &english
}
