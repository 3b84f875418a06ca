package page

import (
	"errors"
	"net/url"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

// act does one thing with the picked letters.
func (v *visit) act() error {
	if err := v.form(); err != nil {
		return err
	}
	ids, err := v.picked(v.r.PostForm["pick"])
	if err != nil {
		return err
	}
	back := v.back()
	if len(ids) == 0 {
		return v.redirect(back)
	}
	do, folder := v.r.PostForm.Get("do"), ""
	switch do {
	case "read", "unread", "flag", "unflag":
		err = v.flags(ids, do)
		if do == "unread" {
			back = closed(back)
		}
	case "restore":
		_, err = v.p.cfg.Store.Restore(v.r.Context(), ids)
		back = closed(back)
	case "delete":
		folder = store.Trash
	case "archive":
		folder = store.Archive
	case "junk":
		folder = store.Junk
	case "notjunk":
		folder = store.Inbox
	case "move":
		if folder = v.r.PostForm.Get("folder"); folder == "" {
			return v.redirect(back)
		}
	default:
		return errRequest
	}
	if folder != "" {
		back = closed(back)
		err = v.move(ids, folder, do == "delete")
	}
	if errors.Is(err, mailbox.ErrBadName) {
		return errRequest
	}
	if err != nil {
		return err
	}
	return v.redirect(back)
}

// picked are the letters that a form names; a thread stands for its letters in folders.
func (v *visit) picked(names []string) (ids []store.LetterID, err error) {
	for _, name := range names {
		number, thread := strings.CutPrefix(name, "t")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n <= 0 {
			return nil, errRequest
		}
		if !thread {
			ids = append(ids, store.LetterID(n))
		} else {
			page, err := v.p.cfg.Store.List(v.r.Context(), store.Query{Thread: n, Limit: 1000})
			if err != nil {
				return nil, err
			}
			for _, m := range page.Letters {
				if m.Folder != store.Sent || v.r.PostForm.Get("do") == "delete" {
					ids = append(ids, m.ID)
				}
			}
		}
		if len(ids) > maxPicked {
			return nil, errRequest
		}
	}
	return ids, nil
}

func (v *visit) flags(ids []store.LetterID, do string) error {
	var set, unset mailbox.Flags
	switch do {
	case "read":
		set = mailbox.Seen
	case "unread":
		unset = mailbox.Seen
	case "flag":
		set = mailbox.Flagged
	case "unflag":
		unset = mailbox.Flagged
	}
	_, err := v.p.cfg.Store.SetFlags(v.r.Context(), ids, set, unset)
	return err
}

// move moves letters, and remembers where they were. Deleted in Trash is removed.
func (v *visit) move(ids []store.LetterID, folder string, remove bool) error {
	ctx := v.r.Context()
	from := map[string]*undoing{}
	var order []string
	for _, id := range ids {
		m, err := v.p.cfg.Store.Summary(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if from[m.Folder] == nil {
			from[m.Folder] = &undoing{folder: m.Folder}
			order = append(order, m.Folder)
		}
		from[m.Folder].ids = append(from[m.Folder].ids, id)
	}
	var n int
	var err error
	if remove {
		n, err = v.p.cfg.Store.Remove(ctx, ids)
	} else {
		n, err = v.p.cfg.Store.Move(ctx, ids, folder)
	}
	if err != nil || n == 0 {
		return err
	}
	f := flash{Text: v.t.count(n, nounLetter) + " → " + v.t.folder(folder)}
	if remove && len(order) == 1 && order[0] == store.Trash {
		f.Text = v.t.count(n, nounLetter) + " → " + v.t.Removed
	}
	for _, name := range order {
		f.undo = append(f.undo, *from[name])
	}
	v.say(f)
	return nil
}

// undo brings back what the last command moved.
func (v *visit) undo() error {
	if err := v.form(); err != nil {
		return err
	}
	v.s.mu.Lock()
	undo := v.s.flash.undo
	v.s.flash = flash{}
	v.s.mu.Unlock()
	for _, u := range undo {
		var gone []store.LetterID // in retention
		for _, id := range u.ids {
			if s, err := v.p.cfg.Store.Standing(v.r.Context(), id); err == nil && s == store.Removed {
				gone = append(gone, id)
			}
		}
		if _, err := v.p.cfg.Store.Restore(v.r.Context(), gone); err != nil {
			return err
		}
		if _, err := v.p.cfg.Store.Move(v.r.Context(), u.ids, u.folder); err != nil {
			return err
		}
	}
	if len(undo) > 0 {
		v.say(flash{Text: v.t.Undone})
	}
	return v.redirect(v.back())
}

// closed is a page's address without the open letter.
func closed(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Path != "/mail" {
		return to
	}
	return whereOf(u.Query()).List()
}
