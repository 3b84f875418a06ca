package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/mua"
)

type backupCmd struct {
	Create  backupCreateCmd  `cmd:"" help:"Make a backup now, while the server runs."`
	List    backupListCmd    `cmd:"" help:"List the backups."`
	Verify  backupVerifyCmd  `cmd:"" help:"Read every octet of the backups and compare every hash."`
	Restore backupRestoreCmd `cmd:"" help:"Restore messages, an account, or everything onto a new machine."`
	Prune   backupPruneCmd   `cmd:"" help:"Forget old backups by the rules of the configuration, and free what they alone needed."`
	Drill   backupDrillCmd   `cmd:"" help:"Restore a backup into a scratch folder, check it, and remove it."`
	Key     backupKeyCmd     `cmd:"" help:"Make a key file."`
}

// backupPlace is where the backups are; all of it replaces what the configuration says.
type backupPlace struct {
	To          string `help:"A folder, or s3://BUCKET/PREFIX; backup.to when none is named." placeholder:"PLACE"`
	KeyFile     string `name:"key-file" help:"Key of an encrypted repository; backup.key_file when the place is backup.to." placeholder:"FILE"`
	Endpoint    string `help:"The S3 server." placeholder:"URL"`
	Region      string `help:"The bucket's region."`
	Credentials string `help:"File with the S3 access key and secret key." placeholder:"FILE"`
}

func (p backupPlace) admin() admin.BackupPlace {
	return admin.BackupPlace{To: p.To, KeyFile: p.KeyFile, Endpoint: p.Endpoint, Region: p.Region, Credentials: p.Credentials}
}

// open opens the backups in this process, as the data folder's owner if there is one.
// Without a configuration the flags say all.
func (p backupPlace) open(ctx context.Context, all *cli, o place.Options) (*backup.Repository, *config.Config, func(), error) {
	conf, err := config.Load(all.Config)
	if err != nil {
		if _, serr := os.Stat(all.Config); p.To == "" || !errors.Is(serr, fs.ErrNotExist) {
			return nil, nil, nil, err
		}
		conf = config.Default()
		r, end, err := daemon.OpenBackups(ctx, p.admin().In(conf.Backup), o)
		return r, nil, end, err
	}
	if _, _, exists, _ := daemon.Owner(conf.Data); exists {
		if err := daemon.BecomeOwner(conf.Data); err != nil {
			return nil, nil, nil, err
		}
	}
	r, end, err := daemon.OpenBackups(ctx, p.admin().In(conf.Backup), o)
	return r, conf, end, err
}

// counted writes a number of things.
func counted(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// printJSON prints one array.
func printJSON[T any](w io.Writer, rows []T) error {
	if rows == nil {
		rows = []T{}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(rows); err != nil {
		return err
	}
	_, err := w.Write(mua.EscapeJSON(b.Bytes())) // names of computers and subjects of letters may hide what moves a terminal
	return err
}

type backupCreateCmd struct {
	backupPlace
	asJSON
	Fast bool `help:"Do not keep to backup.rate."`
}

// Help implements kong's HelpProvider.
func (c *backupCreateCmd) Help() string {
	return `What did not change since the backup before is neither read nor stored again. The
repository is made when there is none: encrypted, if a key file is named.

  poczta backup key /etc/poczta/backup.key
  poczta backup create --to /mnt/disk/poczta --key-file /etc/poczta/backup.key`
}

// Output implements printer.
func (c *backupCreateCmd) Output(p *process) (io.Writer, func(error) error, error) {
	return showBackup(p, c.JSON)
}

// Work implements desk.
func (c *backupCreateCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.BackupCreate(ctx, c.backupPlace.admin(), c.Fast, version)
}

type backupListCmd struct {
	backupPlace
	asJSON
}

// backupRow is a backup in a list.
type backupRow struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Host    string    `json:"host"`
	Kind    string    `json:"kind"`
	Items   int64     `json:"items"`
	Octets  int64     `json:"octets"`
	Stored  int64     `json:"stored"`
	Damaged int64     `json:"damaged"`
}

// Run implements local.
func (c *backupListCmd) Run(ctx context.Context, p *process, all *cli) error {
	r, _, end, err := c.open(ctx, all, place.Options{})
	if err != nil {
		return err
	}
	defer end()
	list, err := r.List(ctx)
	var rows []backupRow
	for _, s := range list {
		rows = append(rows, backupRow{s.ID, s.Time, s.Host, s.Kind, s.Report.Items, s.Report.Octets, s.Report.Stored, s.Report.Damaged})
	}
	if c.JSON {
		return errors.Join(printJSON(p.stdout, rows), err)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	if len(rows) > 0 {
		fmt.Fprintln(w, "BACKUP\tTIME\tHOST\tOF\tITEMS\tSIZE\tNEW IN THE REPOSITORY")
	}
	for _, b := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", b.ID, b.Time.Local().Format(time.DateTime), printable(b.Host), printable(b.Kind), b.Items, mebi(b.Octets), mebi(b.Stored))
	}
	return errors.Join(w.Flush(), err)
}

type backupPruneCmd struct {
	backupPlace
	asJSON
	Forget string `help:"Forget this backup first, whatever the rules say." placeholder:"ID"`
	yes
}

// Run implements local.
func (c *backupPruneCmd) Run(ctx context.Context, p *process, all *cli) error {
	if err := c.confirm(p, "Old backups will be removed for ever."); err != nil {
		return err
	}
	show := newBackupProgress(p.stderr)
	r, conf, end, err := c.open(ctx, all, place.Options{Progress: show.tell})
	if err != nil {
		return err
	}
	defer end()
	if c.Forget != "" {
		if err := r.Forget(ctx, c.Forget); err != nil {
			return err
		}
	}
	if conf == nil {
		conf = config.Default()
	}
	done, err := r.Prune(ctx, daemon.BackupRules(conf.Backup))
	show.end()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.stdout, []backup.Pruned{done})
	}
	_, err = fmt.Fprintf(p.stdout, "%s forgotten; %s removed, %d of them rewritten; %s freed, %s kept.\n",
		counted(int64(len(done.Forgotten)), "backup"), counted(int64(done.Packs), "pack"), done.Rewritten, mebi(done.Freed), mebi(done.Kept))
	return err
}

type backupDrillCmd struct {
	backupPlace
	asJSON
	ID      string `name:"id" help:"This backup instead of the newest." placeholder:"ID"`
	Scratch string `help:"Where the scratch folder is made; the data folder when none is named." placeholder:"FOLDER"`
}

// Run implements local.
func (c *backupDrillCmd) Run(ctx context.Context, p *process, all *cli) error {
	show := newBackupProgress(p.stderr)
	r, conf, end, err := c.open(ctx, all, place.Options{Progress: show.tell})
	if err != nil {
		return err
	}
	defer end()
	if c.Scratch == "" && conf != nil {
		c.Scratch = conf.Data
	}
	if c.Scratch == "" {
		return fmt.Errorf("%w: name a folder with --scratch", admin.ErrUsage)
	}
	s, err := admin.ChooseBackup(ctx, r, c.ID, time.Time{})
	if err != nil {
		return err
	}
	report, err := daemon.Drill(ctx, r, s, c.Scratch)
	show.end()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.stdout, []holdings.DrillReport{report})
	}
	_, err = fmt.Fprintf(p.stdout, "Backup %s can be restored: %d accounts, %d messages, %d rows; %s compared.\n",
		s.ID, report.Restored.Accounts, report.Compared.Messages, report.Compared.Rows, mebi(report.Compared.Octets))
	return err
}

type backupKeyCmd struct {
	File string `arg:"" help:"The file to make; it must not exist."`
}

// Run implements local.
func (c *backupKeyCmd) Run(_ context.Context, p *process, all *cli) error {
	text, err := backup.NewKeyFile()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and may be the key of backups, so it is left as it is; name another file", c.File)
	}
	if err != nil {
		return fmt.Errorf("make key file: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	if conf, err := config.Load(all.Config); err == nil { // the server must be able to read it
		if uid, gid, exists, err := daemon.Owner(conf.Data); err == nil && exists && os.Geteuid() == 0 {
			if err := os.Chown(c.File, uid, gid); err != nil {
				return fmt.Errorf("give key file to the data folder's owner: %w", err)
			}
		}
	}
	_, err = fmt.Fprintf(p.stdout, "%s is made. Keep a copy of it away from this machine: without it the backups can't be read.\n", c.File)
	return err
}

// showBackup shows the lines that BackupCreate and BackupRestore write.
func showBackup(p *process, asJSON bool) (io.Writer, func(error) error, error) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := showLines(p, r, asJSON)
		r.CloseWithError(err)
		done <- err
	}()
	return w, func(err error) error {
		_ = w.Close() // of a pipe: it can't fail
		return errors.Join(err, <-done)
	}, nil
}

func showLines(p *process, r io.Reader, asJSON bool) error {
	show := newBackupProgress(p.stderr)
	defer show.end()
	var rows []any
	letters := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	for in := json.NewDecoder(r); ; {
		var l admin.BackupLine
		err := in.Decode(&l)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read what the server says: %w", err)
		}
		switch {
		case l.Progress != nil:
			show.tell(*l.Progress)
			continue
		case l.Report != nil:
			rows = append(rows, l.Report)
		case l.Restored != nil:
			rows = append(rows, l.Restored)
		case l.Letter != nil:
			rows = append(rows, l.Letter)
		}
		show.end()
		if !asJSON {
			showLine(p.stdout, letters, l, len(rows) == 1)
		}
	}
	if asJSON {
		return printJSON(p.stdout, rows)
	}
	return letters.Flush()
}

// showLine prints a line for a person.
func showLine(w, letters io.Writer, l admin.BackupLine, first bool) {
	switch {
	case l.Report != nil:
		b := l.Report
		fmt.Fprintf(w, "Backup %s: %d items, %s; %d of them new, %s; %s stored.\n", b.Snapshot, b.Items, mebi(b.Octets), b.NewItems, mebi(b.NewOctets), mebi(b.Stored))
	case l.Restored != nil:
		printRestored(w, *l.Restored)
	case l.Letter != nil:
		if first {
			fmt.Fprintln(letters, "MAILBOX\tUNIQUE-ID\tRECEIVED\tOCTETS\tFROM\tSUBJECT")
		}
		m := l.Letter
		fmt.Fprintf(letters, "%s\t%s\t%s\t%d\t%s\t%s\n", printable(m.Mailbox), m.UniqueID, m.Received, m.Octets, printable(m.From), printable(m.Subject)+headersOnly(m.Partial))
	}
}

// headersOnly marks a letter in a list that no restore brings.
func headersOnly(partial bool) string {
	if partial {
		return " (only its header section: left out)"
	}
	return ""
}

func printRestored(w io.Writer, r holdings.Restored) {
	fmt.Fprintf(w, "Restored from backup %s of %s: %d messages", r.Snapshot, r.Time.Local().Format(time.DateTime), r.Messages)
	if r.Retained > 0 {
		fmt.Fprintf(w, ", %d deleted ones that can be put back", r.Retained)
	}
	if r.Duplicates > 0 {
		fmt.Fprintf(w, "; %d were there already", r.Duplicates)
	}
	fmt.Fprintln(w, ".")
	if r.Held > 0 {
		fmt.Fprintf(w, "%d queued recipients are on hold, since they may have been sent already; poczta queue list shows them, poczta queue release sends.\n", r.Held)
	}
	if r.Partial > 0 {
		fmt.Fprintf(w, "%d left out, of which only the header section was there when the backup was made.\n", r.Partial)
	}
	if r.Lost > 0 {
		fmt.Fprintf(w, "%d messages can't be read from the backup.\n", r.Lost)
	}
}

// times that a person may write.
var backupTimes = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} // lint: layouts are constants

// parseTime reads a time; a day alone stands for its begin, or for its end with end.
func parseTime(flag, s string, end bool) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range backupTimes {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	t, err := time.ParseInLocation(time.DateOnly, s, time.Local)
	if err != nil {
		return t, fmt.Errorf("%w: --%s %s is no time; write 2026-11-23, \"2026-11-23 14:30\" or as in RFC 3339", admin.ErrUsage, flag, strings.TrimSpace(s))
	}
	if end {
		t = t.AddDate(0, 0, 1).Add(-time.Microsecond)
	}
	return t, nil
}
