package fetch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mua/fetch/arrivals"
	"poczta.example/poczta/internal/pop3client"
)

// mail is a letter on the server.
type mail struct {
	pop3client.Item
	key    string // in the journal; "" until its octets are known
	digest [16]byte
	was    *row             // what the journal has under this key though it may be another letter
	came   bool             // it was given in this fetch
	due    bool             // the policy wants it deleted on the server
	kept   *arrivals.Letter // it came in a fetch whose process was killed; nil for others
}

// absentFor is how long letters are known that the server does not list any more: its
// unique-ids may have changed.
const absentFor = 400 * 24 * time.Hour

// identify gives letters their keys. Those without a unique-id of their own are known by their
// header section and size, or, where the server has no TOP either, by their hash once they were fetched.
func (r *round) identify(ctx context.Context, items []pop3client.Item) ([]*mail, error) {
	all := make([]*mail, len(items))
	var loose []*mail
	for i, it := range items {
		m := &mail{Item: it}
		all[i] = m
		if it.UniqueID != "" && !it.Shared && !it.Illegal {
			m.key = "u" + it.UniqueID
		} else {
			loose = append(loose, m)
		}
	}
	if len(loose) == 0 || !r.tops() {
		return all, nil
	}
	if err := r.digests(ctx, loose); err != nil {
		return nil, err
	}
	times := map[string]int{}
	for _, m := range loose {
		if m.digest == ([16]byte{}) { // the server refused to show its header
			continue
		}
		key := fmt.Sprintf("h%s-%d", hex.EncodeToString(m.digest[:]), m.Octets)
		times[key]++
		m.key = counted(key, times[key])
	}
	return all, nil
}

// counted tells equal letters apart.
func counted(key string, n int) string {
	if n == 1 {
		return key
	}
	return fmt.Sprintf("%s#%d", key, n)
}

// digests asks for header sections.
func (r *round) digests(ctx context.Context, list []*mail) error {
	by := byNumber(list)
	err := r.s.Top(ctx, numbers(list), 0, func(n int, text io.Reader) error {
		head, err := io.ReadAll(io.LimitReader(text, maxDigested))
		if err == nil {
			by[n].digest = digestOf(head)
		}
		return err
	})
	if declined(err) {
		return nil // they are fetched whole, then
	}
	return err
}

// compare holds the list against the journal. It returns the letters that must be fetched or
// looked at more closely, and brings the journal up to date about who is missing.
func (r *round) compare(ctx context.Context, all []*mail) ([]*mail, error) {
	now := db.Micros(r.now)
	listed := make(map[string]bool, len(all))
	var fresh []*mail
	var changed []*row
	var dropped []string
	for _, m := range all {
		w := r.rows[m.key]
		if m.key == "" || w == nil {
			fresh = append(fresh, m)
			continue
		}
		listed[m.key] = true
		switch {
		case w.octets != m.Octets, w.deleted != 0 && w.absent != 0:
			// Another size, or back after it was gone: the server may use the unique-id for another letter.
			m.was = w
			fresh = append(fresh, m)
		case w.absent != 0:
			w.absent = 0
			changed = append(changed, w)
		}
	}
	for key, w := range r.rows {
		switch {
		case listed[key]:
		case w.absent == 0:
			w.absent = now
			changed = append(changed, w)
		case w.deleted != 0 && now-w.absent > time.Hour.Microseconds(), now-w.absent > absentFor.Microseconds():
			dropped = append(dropped, key)
			delete(r.rows, key)
		}
	}
	return fresh, r.write(ctx, changed, dropped)
}

// recognise finds letters that lie here under another unique-id: one that is missing now has the
// same size and header section. They are not fetched again, and not deleted on the server before
// their whole content was compared.
func (r *round) recognise(ctx context.Context, fresh []*mail) ([]*mail, error) {
	missing := map[int64][]*row{}
	for _, w := range r.rows {
		if w.missing() && !w.partial {
			missing[w.octets] = append(missing[w.octets], w)
		}
	}
	var look []*mail
	for _, m := range fresh {
		if m.was == nil && len(missing[m.Octets]) > 0 && m.digest == ([16]byte{}) {
			look = append(look, m)
		}
	}
	if len(look) == 0 || !r.tops() {
		return fresh, nil
	}
	if err := r.digests(ctx, look); err != nil {
		return nil, err
	}
	var changed []*row
	var dropped []string
	fresh = slices.DeleteFunc(fresh, func(m *mail) bool {
		list := missing[m.Octets]
		i := slices.IndexFunc(list, func(w *row) bool { return w.digest == m.digest })
		if m.was != nil || m.key == "" || m.digest == ([16]byte{}) || i < 0 {
			return false
		}
		old := list[i]
		missing[m.Octets] = slices.Delete(list, i, i+1)
		now := *old
		now.key, now.absent, now.compared = m.key, 0, false
		dropped = append(dropped, old.key)
		changed = append(changed, &now)
		delete(r.rows, old.key)
		r.rows[now.key] = &now
		r.res.Recognised++
		return true
	})
	return fresh, r.write(ctx, changed, dropped)
}

// maxDigested is how much of a header section counts for its digest, in octets.
const maxDigested = 256 << 10

// digestOf is a digest of a header section without what servers write into it as mail is read.
func digestOf(b []byte) (d [16]byte) {
	head, _, _ := message.SplitHeader(b)
	text := make([]byte, 0, 4<<10)
	for f := range message.Fields(head) {
		at, value := len(text), f.Body()
		if !f.Malformed() { // the name is ASCII
			text = append(text, f.Raw[:bytes.IndexByte(f.Raw, ':')]...)
			text = text[:at+len(bytes.TrimRight(text[at:], " \t"))]
		}
		for i, c := range text[at:] {
			if 'A' <= c && c <= 'Z' {
				text[at+i] = c + 'a' - 'A'
			}
		}
		if volatile(text[at:]) {
			text = text[:at]
			continue
		}
		text = appendWords(append(text, ':'), value)
		text = append(text, '\n')
	}
	sum := sha256.Sum256(text)
	copy(d[:], sum[:])
	return d
}

// appendWords appends the words of a text with one space between each.
func appendWords(b, text []byte) []byte {
	from := len(b)
	space := false
	for _, c := range text {
		switch {
		case c >= utf8.RuneSelf: // there are more kinds of space, then
			return append(b[:from], strings.Join(strings.Fields(string(text)), " ")...)
		case c == ' ' || '\t' <= c && c <= '\r':
			space = true
			continue
		case space && len(b) > from:
			b = append(b, ' ')
		}
		space = false
		b = append(b, c)
	}
	return b
}

// volatile reports whether servers write fields with that name, in lower case, into stored mail.
func volatile(name []byte) bool {
	switch string(name) {
	case "status", "content-length", "lines", "return-path", "delivered-to", "x-original-to":
		return true
	}
	if !bytes.HasPrefix(name, []byte("x-")) {
		return false
	}
	for _, p := range []string{"status", "uid", "keywords", "mozilla-", "imap", "evolution"} {
		if strings.HasPrefix(string(name[2:]), p) {
			return true
		}
	}
	return false
}

// headAt returns the header section that begins at r, with what follows it by chance, as far as it
// counts for a digest. Where buf is long enough the octets lie there.
func headAt(r io.ReaderAt, size int64, buf []byte) ([]byte, error) {
	buf = buf[:min(size, int64(len(buf)))]
	for {
		n, err := r.ReadAt(buf, 0)
		if n < len(buf) && err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if _, complete := message.HeaderLen(buf[:n], 0); complete || int64(n) >= min(size, maxDigested) || n < len(buf) {
			return buf[:n], nil
		}
		buf = make([]byte, min(size, maxDigested, int64(4*len(buf))))
	}
}

func numbers(list []*mail) []int {
	all := make([]int, len(list))
	for i, m := range list {
		all[i] = m.Number
	}
	slices.Sort(all)
	return all
}

func byNumber(list []*mail) map[int]*mail {
	by := make(map[int]*mail, len(list))
	for _, m := range list {
		by[m.Number] = m
	}
	return by
}

// inOrder sorts letters as the server numbers them, which is mostly the order they came in.
func inOrder(list []*mail) {
	slices.SortFunc(list, func(a, b *mail) int { return cmp.Compare(a.Number, b.Number) })
}
