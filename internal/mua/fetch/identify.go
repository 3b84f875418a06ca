package fetch

import (
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

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/pop3client"
)

// mail is a letter on the server.
type mail struct {
	pop3client.Item
	key    string // in the journal; "" until its octets are known
	digest [16]byte
	was    *row // what the journal has under this key though it may be another letter
	came   bool // it was given in this fetch
	due    bool // the policy wants it deleted on the server
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
	h := sha256.New()
	for f := range message.Fields(head) {
		if volatile(f) {
			continue
		}
		io.WriteString(h, strings.ToLower(f.Name()))
		io.WriteString(h, ":")
		io.WriteString(h, strings.Join(strings.Fields(string(f.Body())), " "))
		io.WriteString(h, "\n")
	}
	copy(d[:], h.Sum(nil))
	return d
}

func volatile(f message.Field) bool {
	name := strings.ToLower(f.Name())
	switch name {
	case "status", "content-length", "lines", "return-path", "delivered-to", "x-original-to":
		return true
	}
	for _, p := range []string{"x-status", "x-uid", "x-keywords", "x-mozilla-", "x-imap", "x-evolution"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// digestAt is digestOf what begins at r.
func digestAt(r io.ReaderAt, size int64) ([16]byte, error) {
	buf := make([]byte, min(size, 8<<10))
	for {
		n, err := r.ReadAt(buf, 0)
		if n < len(buf) && err != nil && !errors.Is(err, io.EOF) {
			return [16]byte{}, err
		}
		if _, complete := message.HeaderLen(buf[:n], 0); complete || int64(n) >= min(size, maxDigested) || n < len(buf) {
			return digestOf(buf[:n]), nil
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
