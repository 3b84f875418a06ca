package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
)

// BackupLine is a line of what BackupCreate and BackupRestore write to the output, in
// JSON, for the command line to show: exactly one field is set.
type BackupLine struct {
	Progress *backup.Progress   `json:"progress,omitempty"`
	Report   *backup.Report     `json:"report,omitempty"`
	Restored *holdings.Restored `json:"restored,omitempty"`
	Letter   *LetterRow         `json:"letter,omitempty"`
}

// LetterRow is a letter of a backup in a list.
type LetterRow struct {
	Mailbox   string `json:"mailbox"`
	UniqueID  string `json:"unique_id"`
	Received  string `json:"received"`
	Removed   string `json:"removed,omitempty"`
	Octets    int64  `json:"octets"`
	MessageID string `json:"message_id,omitempty"`
	From      string `json:"from,omitempty"`
	Subject   string `json:"subject,omitempty"`
	Partial   bool   `json:"headers_only,omitempty"` // no restore brings it: the backup has its header section only
}

// progressPause is the least time between two lines of progress.
const progressPause = 100 * time.Millisecond

// backupLines writes lines. Used by one goroutine.
type backupLines struct {
	e    *json.Encoder
	last time.Time
}

func (d *Desk) backupLines() *backupLines {
	e := json.NewEncoder(d.Out)
	e.SetEscapeHTML(false)
	return &backupLines{e: e}
}

func (l *backupLines) progress(p backup.Progress) {
	if now := time.Now(); now.Sub(l.last) >= progressPause {
		l.last = now
		_ = l.e.Encode(BackupLine{Progress: &p}) // an output that is gone is told in the end
	}
}

func (l *backupLines) put(line BackupLine) error {
	if err := l.e.Encode(line); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// BackupPlace is where a command finds backups: fields that are set replace those of
// the configuration.
type BackupPlace struct {
	To, KeyFile, Endpoint, Region, Credentials string
}

// In is the configuration with the fields replaced. A place of its own has a key of
// its own: that of the configuration is not used for it.
func (p BackupPlace) In(c config.Backup) config.Backup {
	if p.To != "" && p.To != c.To {
		c.To, c.KeyFile = p.To, ""
	}
	for _, f := range []struct {
		to  *string
		own string
	}{{&c.KeyFile, p.KeyFile}, {&c.Endpoint, p.Endpoint}, {&c.Region, p.Region}, {&c.Credentials, p.Credentials}} {
		if f.own != "" {
			*f.to = f.own
		}
	}
	return c
}

// BackupCreate makes a backup now; the repository is made when there is none. fast
// does not spare the server.
func (d *Desk) BackupCreate(ctx context.Context, at BackupPlace, fast bool, version string) error {
	c := at.In(d.Rooms.Config.Backup)
	lines := d.backupLines()
	o := place.Options{Make: true, Progress: lines.progress}
	if !fast {
		o.Rate = int64(c.Rate)
	}
	r, end, err := daemon.OpenBackups(ctx, c, o)
	if err != nil {
		return err
	}
	defer end()
	report, err := d.Rooms.Backup(ctx, r, version, nil)
	if err != nil {
		return explain(err, "")
	}
	if err := lines.put(BackupLine{Report: &report}); err != nil {
		return err
	}
	if report.Damaged > 0 {
		return fmt.Errorf("%d messages are damaged in the store and are in the backup without their octets; poczta store check names them; all others are backed up", report.Damaged)
	}
	return nil
}

// BackupSelection says what BackupRestore restores.
type BackupSelection struct {
	holdings.Selection
	ID   string    // of the backup; "" is the newest at or before At
	At   time.Time // zero is now
	Into string    // the account that gets the mail; "" is that of the same name
	List bool      // only tell what would be restored
	Make bool      // make the account when it does not exist
}

// BackupRestore restores letters of one account into an account of this server.
func (d *Desk) BackupRestore(ctx context.Context, at BackupPlace, sel BackupSelection) error {
	lines := d.backupLines()
	r, end, err := daemon.OpenBackups(ctx, at.In(d.Rooms.Config.Backup), place.Options{Progress: lines.progress})
	if err != nil {
		return err
	}
	defer end()
	s, err := backupWith(ctx, r, sel)
	if err != nil {
		return err
	}
	if sel.List {
		return holdings.Find(ctx, r, s, sel.Selection, true, func(l holdings.Letter) error {
			return lines.put(BackupLine{Letter: &LetterRow{Mailbox: l.Mailbox, UniqueID: l.UniqueID, Received: stamp(l.Received), Removed: stamp(l.Removed),
				Octets: l.Octets, MessageID: l.MessageID, From: l.From, Subject: l.Subject, Partial: l.Partial}})
		})
	}
	into := sel.Into
	if into == "" {
		into = sel.Account
	}
	a, err := d.find(ctx, into)
	if errors.Is(err, account.ErrNotFound) && sel.Make && sel.Into == "" {
		a, err = d.readd(ctx, r, s, sel.Account)
	} else if err != nil {
		err = fmt.Errorf("%w; make the account first, with --create as it was, or name another with --into", err)
	}
	if err != nil {
		return err
	}
	done, err := holdings.Mail(ctx, r, s, sel.Selection, holdings.Mailroom{Body: d.Rooms.Body, Mailboxes: d.Rooms.Mailboxes,
		Account: a.ID, Login: a.Login, Progress: lines.progress})
	if errors.Is(err, backup.ErrNotFound) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w; what is restored stays: when the cause is mended, run the same command again", explain(err, ""))
	}
	if err := lines.put(BackupLine{Restored: &done}); err != nil {
		return err
	}
	if done.Lost > 0 {
		return fmt.Errorf("%d messages can't be read from the backup; all others are restored; poczta backup verify tells more", done.Lost)
	}
	return nil
}

// ChooseBackup finds the backup that a person means: by id, or the newest of a server at
// or before a time; the zero time is now.
func ChooseBackup(ctx context.Context, r *backup.Repository, id string, at time.Time) (*backup.Snapshot, error) {
	var s *backup.Snapshot
	var err error
	if id != "" {
		s, err = r.Snapshot(ctx, id)
	} else {
		s, err = r.At(ctx, daemon.BackupKind, at)
	}
	return s, hintList(err)
}

func hintList(err error) error {
	if errors.Is(err, backup.ErrNotFound) {
		err = fmt.Errorf("%w; poczta backup list shows what there is", err)
	}
	return err
}

// backupWith finds the backup to restore an account from: by id, or the newest at or
// before a time that has the account, of a server or of a person.
func backupWith(ctx context.Context, r *backup.Repository, sel BackupSelection) (*backup.Snapshot, error) {
	if sel.ID != "" {
		return ChooseBackup(ctx, r, sel.ID, sel.At)
	}
	newest, err := r.At(ctx, "", sel.At)
	if err != nil {
		return nil, hintList(err)
	}
	all, err := r.List(ctx)
	if err != nil && !errors.Is(err, backup.ErrDamaged) {
		return nil, err
	}
	missing := fmt.Errorf("account %s: %w of %s", sel.Account, backup.ErrNotFound, stamp(newest.Time))
	for _, s := range slices.Backward(all) {
		if s.Time.After(newest.Time) {
			continue
		}
		_, err := holdings.FindAccount(ctx, r, s, sel.Account)
		switch {
		case err == nil:
			return s, nil
		case !errors.Is(err, backup.ErrNotFound):
			return nil, err
		case s.ID == newest.ID:
			missing = err
		}
	}
	return nil, fmt.Errorf("%w; no older backup has it either", missing)
}
