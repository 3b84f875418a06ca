package page

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// foldersView is the page on which folders are made, renamed and removed.
type foldersView struct {
	frame
	List    []accountFolders
	Problem string
	Ask     *removing
	Name    string // of the folder to be that was refused
	For     envelope.AccountID
}

type accountFolders struct {
	Account profile.Account
	Own     []folderView
}

type folderView struct{ Name, Shown, Letters, Label string }

// removing says what a removal would do, before it is done.
type removing struct {
	Account           envelope.AccountID
	Name              string
	Title, Letters    string
	Below, RulesThere string
}

// folders shows the folders that can be changed, or asks whether one is to be removed.
func (v *visit) folders() error {
	q := v.r.URL.Query()
	if name := q.Get("remove"); name != "" {
		ask, err := v.removing(accountOf(q.Get("a")), name)
		if err != nil {
			return err
		}
		return v.showFolders(foldersView{Ask: ask})
	}
	return v.showFolders(foldersView{})
}

func (v *visit) showFolders(view foldersView) error {
	var err error
	if view.frame, err = v.full(v.t.Folders, "folders", where{}); err != nil {
		return err
	}
	all, err := v.p.cfg.Store.Folders(v.r.Context())
	if err != nil {
		return err
	}
	for _, a := range view.Accounts {
		g := accountFolders{Account: a}
		for _, f := range all {
			if f.Account == a.ID && !slices.Contains(store.Standard(), f.Name) && f.Name != outbox.Folder {
				shown := v.t.folder(f.Name)
				g.Own = append(g.Own, folderView{f.Name, shown, v.t.count(int(f.Messages), nounLetter), v.t.about(v.t.RenameOf, shown)})
			}
		}
		view.List = append(view.List, g)
	}
	if view.Problem != "" {
		v.w.WriteHeader(http.StatusUnprocessableEntity)
	}
	return v.show("folders.html", view)
}

// removing looks what a folder's removal would do. store.ErrNotFound.
func (v *visit) removing(account envelope.AccountID, name string) (*removing, error) {
	if slices.Contains(store.Standard(), name) || name == outbox.Folder {
		return nil, store.ErrNotFound
	}
	all, err := v.p.cfg.Store.Folders(v.r.Context())
	if err != nil {
		return nil, err
	}
	ask := &removing{Account: account, Name: name, Title: v.t.about(v.t.RemoveFolderTitle, v.t.folder(name))}
	var letters int64
	var below []string
	there := false
	for _, f := range all {
		if f.Account != account || !within(f.Name, name) {
			continue
		}
		there = true
		letters += f.Messages
		if f.Name != name {
			below = append(below, v.t.folder(f.Name))
		}
	}
	if !there {
		return nil, store.ErrNotFound
	}
	if letters > 0 {
		ask.Letters = v.t.about(v.t.RemoveFolderText, v.t.count(int(letters), nounLetter))
	}
	if len(below) > 0 {
		ask.Below = v.t.about(v.t.RemoveFolderBelow, strings.Join(below, ", "))
	}
	rules, err := v.p.cfg.Store.Rules(v.r.Context())
	var names []string
	for _, r := range rules {
		if within(r.Move, name) && applies(r, account) {
			names = append(names, r.Name)
		}
	}
	if len(names) > 0 {
		ask.RulesThere = v.t.about(v.t.RemoveFolderRules, strings.Join(names, ", "))
	}
	return ask, err
}

// within reports whether a folder is another one, or lies in it.
func within(name, in string) bool { return name == in || strings.HasPrefix(name, in+"/") }

// applies reports whether a rule files letters of an account.
func applies(r store.Rule, account envelope.AccountID) bool {
	return len(r.Accounts) == 0 || slices.Contains(r.Accounts, account)
}

// foldered makes, renames or removes a folder.
func (v *visit) foldered() error {
	if err := v.form(); err != nil {
		return err
	}
	f, ctx := v.r.PostForm, v.r.Context()
	a, err := v.account(accountOf(f.Get("a")))
	if err != nil {
		return err
	}
	folder, name := f.Get("folder"), FolderName(f.Get("name"))
	said := ""
	switch do := f.Get("do"); do {
	case "make":
		if err = v.nameable(name); err == nil {
			err = v.p.cfg.Store.CreateFolder(ctx, a.ID, name)
		}
		said = v.t.about(v.t.FolderMade, v.t.folder(name))
	case "rename":
		if name == folder {
			return v.redirect("/folders")
		}
		if err = v.nameable(name); err == nil {
			err = RenameFolder(ctx, v.p.cfg.Store, a.ID, len(v.accounts) == 1, folder, name)
		}
		said = v.t.about(v.t.FolderRenamed, v.t.folder(name))
	case "remove":
		err = RemoveFolder(ctx, v.p.cfg.Store, a.ID, folder)
		said = v.t.about(v.t.FolderRemoved, v.t.folder(folder))
	default:
		return errRequest
	}
	if err != nil {
		return v.showFolders(foldersView{Problem: v.folderTrouble(err, name), Name: f.Get("name"), For: a.ID})
	}
	v.say(flash{Text: said})
	return v.redirect("/folders")
}

// FolderName is a name as a person typed it: blanks beside slashes are no part of it.
func FolderName(s string) string {
	parts := strings.Split(strings.TrimSpace(s), "/")
	for i, p := range parts {
		parts[i] = strings.Join(strings.Fields(p), " ")
	}
	return strings.Join(parts, "/")
}

// ErrReserved is the folder of the outbox, ErrWithin a folder that would lie in itself.
var (
	ErrReserved = errors.New("this folder is the outbox's")
	ErrWithin   = errors.New("the folder would lie in itself")
)

// nameable checks a name for a folder to be, as the page shows folders.
func (v *visit) nameable(name string) error {
	for _, s := range append(store.Standard(), outbox.Folder) {
		if name != "" && strings.EqualFold(v.t.folder(s), name) {
			return mailbox.ErrExists
		}
	}
	return CheckFolder(name)
}

// CheckFolder checks a name for a folder to be. A folder that is named like a standard one in other
// letters would be taken for it. mailbox.ErrBadName, mailbox.ErrExists.
func CheckFolder(name string) error {
	if name == "" {
		return mailbox.ErrBadName
	}
	for _, s := range append(store.Standard(), outbox.Folder) {
		if strings.EqualFold(s, name) {
			return mailbox.ErrExists
		}
	}
	_, err := mailbox.CheckName(name)
	return err
}

// RemoveFolder removes a folder with those in it; their letters go to Trash. ErrReserved,
// store.ErrStandard, store.ErrNotFound.
func RemoveFolder(ctx context.Context, s *store.Store, account envelope.AccountID, name string) error {
	if within(name, outbox.Folder) {
		return ErrReserved
	}
	return s.RemoveFolder(ctx, account, name)
}

// RenameFolder renames a folder with those in it, and has the rules that file there for this account
// alone know; so do those for all, where it is the only one. The name was checked by CheckFolder.
// ErrReserved, ErrWithin, mailbox.ErrExists, store.ErrStandard, store.ErrNotFound.
func RenameFolder(ctx context.Context, s *store.Store, account envelope.AccountID, only bool, from, to string) error {
	if within(from, outbox.Folder) {
		return ErrReserved
	}
	if within(to, from) {
		return ErrWithin
	}
	all, err := s.Folders(ctx)
	if err != nil {
		return err
	}
	for _, f := range all {
		if f.Account == account && f.Name == to {
			return mailbox.ErrExists
		}
	}
	if err := s.RenameFolder(ctx, account, from, to); err != nil {
		return err
	}
	rules, err := s.Rules(ctx)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if len(r.Accounts) == 1 && r.Accounts[0] == account || len(r.Accounts) == 0 && only {
			if within(r.Move, from) {
				r.Move = to + strings.TrimPrefix(r.Move, from)
				if _, err := s.SaveRule(ctx, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// folderTrouble says why a folder is as it was.
func (v *visit) folderTrouble(err error, name string) string {
	if errors.Is(err, mailbox.ErrExists) {
		return v.t.trouble(mailbox.ErrExists) + " (" + name + ")"
	}
	return v.t.trouble(err)
}
