package mua

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
)

// BackupRestoring says which letters of a backup come back, and where to.
type BackupRestoring struct {
	holdings.Selection
	ID   string    // of the backup; "" is the newest at or before At
	At   time.Time // zero is now
	Into string    // the account here; "" is that of the same name
	List bool      // only list them
}

// errNoMatch is a selection that meets no letter.
var errNoMatch = errors.New("no letter of the backup matches")

func (d *Desk) noMatch() error {
	return &explained{d.choose(errNoMatch.Error(), "żaden list z kopii nie pasuje"), errNoMatch}
}

// BackupRestore brings letters of one account of a backup back into an account here: those that it
// has already are left as they are.
func (d *Desk) BackupRestore(ctx context.Context, p place.Place, o BackupRestoring) error {
	m := newMeter(d, "restore")
	defer m.end()
	_, p, err := d.backups(ctx, p)
	if err != nil {
		return err
	}
	r, end, err := place.Open(ctx, p, place.Options{Progress: m.backedUp})
	if err != nil {
		return err
	}
	defer end()
	s, err := snapshot(ctx, r, o.ID, "", o.At)
	if err != nil {
		return err
	}
	if o.List {
		m.end()
		return d.backupLetters(ctx, r, s, o.Selection)
	}
	into := o.Into
	if into == "" {
		into = o.Account
	}
	a, err := d.account(ctx, into)
	if err != nil {
		return err
	}
	done, err := holdings.Mail(ctx, r, s, o.Selection, holdings.Mailroom{Body: d.Mail.Store.Body(), Mailboxes: d.Mail.Store.Mailboxes(), Account: a.ID, Login: a.Address, Progress: m.backedUp})
	if err != nil {
		return err
	}
	if done.Messages+done.Duplicates > 0 { // what is here already may be of a restore that was killed before this
		if err := d.Mail.Store.Reconcile(ctx); err != nil {
			return err
		}
		if err := d.index(ctx); err != nil {
			return err
		}
	}
	m.end()
	return d.restored(done)
}

func (d *Desk) restored(done holdings.Restored) error {
	if d.JSON {
		if err := d.encode(done); err != nil {
			return err
		}
	}
	switch {
	case done.Messages+done.Duplicates+done.Partial+done.Lost == 0:
		return d.noMatch()
	case d.JSON:
		return nil
	}
	d.say(d.choose("Restored from backup %s of %s: %s; %d were here already.", "Przywrócono z kopii %s z %s: %s; już tu były: %d."), done.Snapshot, done.Time.Local().Format(time.DateTime), d.count(int(done.Messages)), done.Duplicates)
	if done.Partial > 0 {
		d.say(d.choose("%d left out, of which only the header section was there when the backup was made.", "Pominięto (był tam tylko nagłówek, gdy powstawała kopia): %d."), done.Partial)
	}
	if done.Lost > 0 {
		return fmt.Errorf(d.choose("%s can't be read from the backup; all others are here", "z kopii nie da się odczytać: %s; wszystkie inne są tutaj"), d.count(int(done.Lost)))
	}
	return nil
}

// backupLetter is a letter of a backup in a list.
type backupLetter struct {
	Folder    string     `json:"folder"`
	Received  time.Time  `json:"received"`
	Removed   *time.Time `json:"removed,omitempty"` // deleted by then, but could be restored
	Octets    int64      `json:"octets"`
	UniqueID  string     `json:"unique_id"`
	MessageID string     `json:"message_id,omitempty"`
	From      string     `json:"from,omitempty"`
	Subject   string     `json:"subject,omitempty"`
	Partial   bool       `json:"headers_only,omitempty"` // it would be left out
}

// backupLetters lists the letters that a restore would look at, by folder.
func (d *Desk) backupLetters(ctx context.Context, r *backup.Repository, s *backup.Snapshot, sel holdings.Selection) error {
	rows := []backupLetter{}
	err := holdings.Find(ctx, r, s, sel, true, func(l holdings.Letter) error {
		row := backupLetter{Folder: l.Mailbox, Received: l.Received, Octets: l.Octets, UniqueID: l.UniqueID, MessageID: l.MessageID, From: l.From, Subject: l.Subject, Partial: l.Partial}
		if !l.Removed.IsZero() {
			row.Removed = &l.Removed
		}
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return err
	}
	if len(rows) == 0 && !d.JSON {
		return d.noMatch()
	}
	return table(d, rows, "FOLDER\tRECEIVED\tSIZE\tFROM\tSUBJECT\tMESSAGE-ID", func(l backupLetter) string {
		note := ""
		if l.Partial {
			note = " (only its header section: left out)"
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s%s\t%s", l.Folder, l.Received.Local().Format(time.DateTime), size(l.Octets), l.From, l.Subject, note, l.MessageID)
	})
}
