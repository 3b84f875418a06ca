package page

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// overlay puts what the person typed over the draft.
func (v *visit) overlay(d *compose.Draft, f url.Values) error {
	for name, list := range map[string]*[]store.Address{"to": &d.To, "cc": &d.Cc, "bcc": &d.Bcc} {
		good, wrong := compose.ParseAddresses(f.Get(name))
		for _, w := range wrong { // kept, so that nothing typed is lost; Check refuses to send it
			good = append(good, store.Address{Address: w})
		}
		*list = good
	}
	d.Subject = strings.Join(strings.Fields(f.Get("subject")), " ")
	d.Text = strings.ReplaceAll(f.Get("text"), "\r\n", "\n")
	id, addr, _ := strings.Cut(f.Get("from"), " ")
	a, err := v.account(accountOf(id))
	if err != nil {
		return err
	}
	if a.Archive {
		return profile.ErrArchive
	}
	if !a.Owns(addr) {
		return errRequest
	}
	d.Account, d.From = a.ID, store.Address{Name: a.Name, Address: addr}
	return nil
}

// files puts the files that the form brings to the draft, and takes away that which it drops.
func (v *visit) files(d *compose.Draft) {
	if drop, ok := strings.CutPrefix(v.r.PostForm.Get("do"), "drop-"); ok {
		if i, err := strconv.Atoi(drop); err == nil && i >= 0 && i < len(d.Attachments) {
			d.Attachments = slices.Delete(d.Attachments, i, i+1)
		}
	}
	if v.r.MultipartForm != nil {
		for _, h := range v.r.MultipartForm.File["file"] {
			if h.Filename != "" || h.Size > 0 {
				d.Attachments = append(d.Attachments, attachment(h))
			}
		}
	}
}

func attachment(h *multipart.FileHeader) compose.Attachment {
	kind := h.Header.Get("Content-Type")
	if kind == "message/rfc822" || strings.HasPrefix(kind, "multipart/") { // as a file, whatever it holds
		kind = "application/octet-stream"
	}
	name := cleanName(h.Filename)
	if name == "" {
		name = "file"
	}
	return compose.Attachment{Name: name, Type: kind, Octets: h.Size, Open: func() (io.ReadCloser, error) { return h.Open() }}
}

// saved saves while the person types, and tells our script. beside says that the letter in Drafts is
// as it was: it is written when the page goes.
func (v *visit) saved(d *compose.Draft, draft store.LetterID) error {
	beside, err := v.keepTyped(context.WithoutCancel(v.r.Context()), d, draft)
	if err == nil && !beside {
		draft, err = v.save(d, draft)
	}
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(v.w).Encode(map[string]any{"draft": draft, "beside": beside, "saved": v.t.Saved + " " + v.p.cfg.Now().In(v.p.cfg.Zone).Format("15:04")})
}

// save puts a draft into Drafts, durably, and then the one before it into retention: at no
// instant is there none.
func (v *visit) save(d *compose.Draft, before store.LetterID) (id store.LetterID, err error) {
	ctx := context.WithoutCancel(v.r.Context()) // a page that is closed while it saves has still saved
	now := v.p.cfg.Now()
	mid, err := d.NewID(now, v.p.cfg.Rand)
	if err != nil {
		return 0, err
	}
	st, err := v.p.cfg.Store.Body().Stage(ctx, int64(len(d.Text)))
	if err != nil {
		return 0, err
	}
	defer st.Discard()
	if err := compose.WriteDraft(st, d, now.In(v.p.cfg.Zone), mid); err != nil {
		return 0, err
	}
	_, err = v.p.cfg.Store.Add(ctx, d.Account, []mailbox.Import{{Mailbox: store.Drafts, Staged: st, Received: now, Flags: mailbox.Seen | mailbox.Draft}},
		func(tx db.Tx, _ int, a mailbox.Appended) (err error) {
			id, err = v.p.cfg.Store.LetterOf(tx, d.Account, a.Entry.Number, a.Entry.UID)
			return err
		})
	if err != nil {
		return 0, err
	}
	if before != 0 && before != id {
		err = v.drop(ctx, before)
	}
	return id, err
}

// drop puts a draft that is no longer wanted into retention, past Trash.
func (v *visit) drop(ctx context.Context, id store.LetterID) error {
	if err := v.forgetTyped(ctx, id); err != nil {
		return err
	}
	m, err := v.p.cfg.Store.Summary(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && (m.Folder != store.Drafts || !m.Removed.IsZero()) {
		return nil
	}
	for range 2 {
		if err == nil {
			_, err = v.p.cfg.Store.Remove(ctx, []store.LetterID{id})
		}
	}
	return err
}
