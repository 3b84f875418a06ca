package mua

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// FolderMake makes a folder of an account; levels are parted by slashes.
func (d *Desk) FolderMake(ctx context.Context, account, name string) error {
	a, err := d.owner(ctx, account)
	if err != nil {
		return err
	}
	name = page.FolderName(name)
	if err = page.CheckFolder(name); err == nil {
		err = d.Mail.Store.CreateFolder(ctx, a.ID, name)
	}
	if err != nil {
		return d.folderTrouble(err, name)
	}
	d.say(d.choose("The folder %s is made.", "Folder %s jest gotowy."), name)
	return nil
}

// FolderRename renames a folder with those in it. Rules that file there follow.
func (d *Desk) FolderRename(ctx context.Context, account, from, to string) error {
	a, err := d.owner(ctx, account)
	if err != nil {
		return err
	}
	all, err := d.Mail.Accounts.List(ctx)
	if err != nil {
		return err
	}
	to = page.FolderName(to)
	if err = page.CheckFolder(to); err == nil {
		err = page.RenameFolder(ctx, d.Mail.Store, a.ID, len(all) == 1, from, to)
	}
	if err != nil {
		return d.folderTrouble(err, map[bool]string{true: to, false: from}[errors.Is(err, mailbox.ErrExists) || errors.Is(err, mailbox.ErrBadName)])
	}
	d.say(d.choose("The folder %s is now %s.", "Folder %s nazywa się teraz %s."), from, to)
	return nil
}

// FolderRemove removes a folder with those in it; their letters go to Trash.
func (d *Desk) FolderRemove(ctx context.Context, account, name string) error {
	a, err := d.owner(ctx, account)
	if err != nil {
		return err
	}
	letters, err := d.lettersIn(ctx, a.ID, name)
	if err == nil {
		err = page.RemoveFolder(ctx, d.Mail.Store, a.ID, name)
	}
	if err != nil {
		return d.folderTrouble(err, name)
	}
	if letters == 0 {
		d.say(d.choose("The folder %s is removed.", "Folder %s jest usunięty."), name)
		return nil
	}
	d.say(d.choose("The folder %s is removed; what lay there is in %s: %s.", "Folder %s jest usunięty; jego zawartość leży w folderze %s: %s."), name, store.Trash, d.count(int(letters)))
	return nil
}

// owner is the account that --account names.
func (d *Desk) owner(ctx context.Context, name string) (profile.Account, error) {
	a, err := d.account(ctx, name)
	if u, ok := errors.AsType[*profile.Unclear](err); ok {
		u.By = "--account"
	}
	return a, err
}

// lettersIn counts the letters of a folder and of those in it.
func (d *Desk) lettersIn(ctx context.Context, account envelope.AccountID, name string) (n int64, err error) {
	all, err := d.Mail.Store.Folders(ctx)
	for _, f := range all {
		if f.Account == account && (f.Name == name || strings.HasPrefix(f.Name, name+"/")) {
			n += f.Messages
		}
	}
	return n, err
}

// folderTrouble says why a folder is as it was.
func (d *Desk) folderTrouble(err error, name string) error {
	text := ""
	switch {
	case errors.Is(err, store.ErrNotFound):
		text = d.noFolder(name)
	case errors.Is(err, store.ErrStandard):
		text = fmt.Sprintf(d.choose("every account has the folder %s: it can't be renamed or removed", "folder %s ma każde konto: nie da się go przemianować ani usunąć"), name)
	case errors.Is(err, page.ErrReserved):
		text = fmt.Sprintf(d.choose("the folder %s is the outbox's: it can't be renamed or removed", "folder %s należy do skrzynki nadawczej: nie da się go przemianować ani usunąć"), name)
	case errors.Is(err, page.ErrWithin):
		text = fmt.Sprintf(d.choose("the folder %s would lie in itself; give it another name", "folder %s leżałby w sobie samym; podaj inną nazwę"), name)
	case errors.Is(err, mailbox.ErrExists):
		text = fmt.Sprintf(d.choose("there is a folder %s already, or one that every account has is named like it; give it another name", "folder %s już istnieje albo podobnie nazywa się folder, który ma każde konto; podaj inną nazwę"), name)
	case errors.Is(err, mailbox.ErrBadName):
		text = fmt.Sprintf(d.choose("%q can't be a folder's name; give it another", "%q nie może być nazwą folderu; podaj inną"), name)
	default:
		return err
	}
	return &explained{text, err}
}
