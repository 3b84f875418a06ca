package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/mua"
)

// muaBackupCmd is the backups of a person's mail.
type muaBackupCmd struct {
	Create   muaBackupCreateCmd   `cmd:"" help:"Make a backup now; only what is new is stored."`
	Schedule muaBackupScheduleCmd `cmd:"" help:"Have backups made by themselves, or show what became of them."`
	List     muaBackupListCmd     `cmd:"" help:"List the backups."`
	Verify   muaBackupVerifyCmd   `cmd:"" help:"Read every octet of the backups and compare every hash."`
	Restore  muaBackupRestoreCmd  `cmd:"" help:"Bring letters back, or everything onto a new computer."`
	Prune    muaBackupPruneCmd    `cmd:"" help:"Forget old backups, and free what they alone needed."`
	Drill    muaBackupDrillCmd    `cmd:"" help:"Restore a backup into a scratch folder, check it, and remove it."`
	Key      backupKeyCmd         `cmd:"" help:"Make a key file, for encrypted backups."`
}

// muaPlace is where a person's backups are.
type muaPlace struct {
	To          string `help:"A folder, or s3://BUCKET/PREFIX; that of the scheduled backups, with their key, when none is named." env:"POCZTA_MAIL_BACKUP" placeholder:"PLACE"`
	KeyFile     string `name:"key-file" help:"Key of encrypted backups." env:"POCZTA_MAIL_BACKUP_KEY" placeholder:"FILE"`
	Endpoint    string `help:"The S3 server." placeholder:"URL"`
	Region      string `help:"The bucket's region."`
	Credentials string `help:"File with the S3 access key and secret key." placeholder:"FILE"`
}

func (m muaPlace) where() place.Place {
	return place.Place{To: m.To, KeyFile: m.KeyFile, Endpoint: m.Endpoint, Region: m.Region, Credentials: m.Credentials}
}

// find is where for a command that runs in this process: without --to, the place of the scheduled
// backups, of which the process is asked that has the mail open. status is zero with --to.
func (m muaPlace) find(ctx context.Context, p *process, all *cli) (at place.Place, status mua.BackupStatus, err error) {
	if m.To != "" {
		return m.where(), status, nil
	}
	var out bytes.Buffer
	if err = callMail(ctx, p, all, []string{"mail", "backup", "schedule", "--show", "--json"}, control.Streams{In: eof{}, Out: &out, Err: p.stderr}); err != nil {
		return at, status, fmt.Errorf("look where the scheduled backups are: %w; or name the place with --to", err)
	}
	if err = json.Unmarshal(out.Bytes(), &status); err != nil {
		return at, status, fmt.Errorf("look where the scheduled backups are: %w", err)
	}
	at, err = status.Place(m.where())
	return at, status, usage(err)
}

// open opens the backups that find finds.
func (m muaPlace) open(ctx context.Context, p *process, all *cli, o place.Options) (*backup.Repository, mua.BackupStatus, func(), error) {
	at, status, err := m.find(ctx, p, all)
	if err != nil {
		return nil, status, nil, err
	}
	r, end, err := place.Open(ctx, at, o)
	return r, status, end, err
}

type muaBackupCreateCmd struct {
	muaPlace
	asJSON
}

func (c *muaBackupCreateCmd) lasts() {}

// Help implements kong's HelpProvider.
func (c *muaBackupCreateCmd) Help() string {
	return `The first backup makes the place; with a key file, it is encrypted.

  poczta mail backup key ~/backup.key
  poczta mail backup create --to /media/disk/mail --key-file ~/backup.key`
}

func (c *muaBackupCreateCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	return d.BackupCreate(ctx, c.where(), version)
}

type muaBackupScheduleCmd struct {
	To          string        `help:"A folder, or s3://BUCKET/PREFIX." placeholder:"PLACE"`
	KeyFile     string        `name:"key-file" help:"Key of encrypted backups." placeholder:"FILE"`
	Endpoint    string        `help:"The S3 server." placeholder:"URL"`
	Region      string        `help:"The bucket's region."`
	Credentials string        `help:"File with the S3 access key and secret key." placeholder:"FILE"`
	Every       time.Duration `help:"From one backup to the next." default:"24h"`
	Keep        string        `help:"Which backups stay: the newest ones, and the newest of each of so many days, weeks and months; or all." default:"last=3,daily=14,weekly=8,monthly=24"`
	DrillEvery  time.Duration `name:"drill-every" help:"How often one is restored into a scratch folder beside your mail, compared and removed; 0s is never." default:"720h"`
	Show        bool          `help:"Only show. So does the command without --to." xor:"what"`
	Off         bool          `help:"Make none by themselves any more." xor:"what"`
	asJSON
}

// Help implements kong's HelpProvider.
func (c *muaBackupScheduleCmd) Help() string {
	return `They are made while poczta mail open or poczta mail sync --watch runs. When they fail, accounts and
sync say so.

  poczta mail backup schedule --to /media/disk/mail --key-file ~/backup.key --every 24h`
}

func (c *muaBackupScheduleCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	switch {
	case c.Off:
		return d.BackupUnschedule(ctx)
	case c.Show || c.To == "":
		return d.BackupScheduled(ctx)
	}
	keep, err := mua.ParseKeep(c.Keep)
	if err != nil {
		return err
	}
	return d.BackupSchedule(ctx, mua.Schedule{To: c.To, KeyFile: c.KeyFile, Endpoint: c.Endpoint, Region: c.Region, Credentials: c.Credentials,
		Every: int64(c.Every / time.Second), Keep: keep, DrillEvery: int64(c.DrillEvery / time.Second)})
}

type muaBackupListCmd struct {
	muaPlace
	asJSON
}

// Run implements local.
func (c *muaBackupListCmd) Run(ctx context.Context, p *process, all *cli) error {
	r, _, end, err := c.open(ctx, p, all, place.Options{})
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
	fmt.Fprintln(w, "BACKUP\tTIME\tCOMPUTER\tITEMS\tSIZE\tNEW")
	for _, b := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", b.ID, b.Time.Local().Format(time.DateTime), printable(b.Host), b.Items, mebi(b.Octets), mebi(b.Stored))
	}
	return errors.Join(w.Flush(), err)
}

type muaBackupVerifyCmd struct {
	muaPlace
	asJSON
	Repair bool `help:"Let the index forget what is damaged, so that the next backup stores it again."`
}

// Help implements kong's HelpProvider.
func (c *muaBackupVerifyCmd) Help() string { return verifyHelp }

// Run implements local.
func (c *muaBackupVerifyCmd) Run(ctx context.Context, p *process, all *cli) error {
	show := newBackupProgress(p.stderr)
	r, _, end, err := c.open(ctx, p, all, place.Options{Progress: show.tell})
	if err != nil {
		return err
	}
	defer end()
	v, err := verifyBackups(ctx, p, r, c.Repair, c.JSON, show, func(v *backup.Verification) string { return mebi(v.Octets) + " read" })
	if v == nil {
		return err
	}
	return errors.Join(err, faultsFound(v, c.Repair, "poczta mail backup"))
}

type muaBackupPruneCmd struct {
	muaPlace
	asJSON
	yes
	Keep   string `help:"Which backups stay, as in backup schedule; its wish for its place, else last=3,daily=14,weekly=8,monthly=24, when nothing is said." placeholder:"RULES"`
	Forget string `help:"Forget this backup first, whatever the rules say." placeholder:"ID"`
}

// Run implements local.
func (c *muaBackupPruneCmd) Run(ctx context.Context, p *process, all *cli) error {
	if err := c.confirm(p, "Old backups will be removed for ever."); err != nil {
		return err
	}
	show := newBackupProgress(p.stderr)
	r, status, end, err := c.open(ctx, p, all, place.Options{Progress: show.tell})
	if err != nil {
		return err
	}
	defer end()
	keep := mua.DefaultKeep()
	if status.Schedule != nil {
		keep = status.Schedule.Keep
	}
	if c.Keep != "" {
		if keep, err = mua.ParseKeep(c.Keep); err != nil {
			return usage(err)
		}
	}
	if c.Forget != "" {
		if err := r.Forget(ctx, c.Forget); err != nil {
			return err
		}
	}
	done, err := r.Prune(ctx, keep)
	show.end()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.stdout, []backup.Pruned{done})
	}
	if c.Forget != "" {
		fmt.Fprintf(p.stdout, "Backup %s is forgotten.\n", printable(c.Forget))
	}
	_, err = fmt.Fprintf(p.stdout, "%s forgotten by the rules; %s freed, %s kept.\n", counted(int64(len(done.Forgotten)), "backup"), mebi(done.Freed), mebi(done.Kept))
	return err
}

type muaBackupDrillCmd struct {
	muaPlace
	ID      string `name:"id" help:"This backup instead of the newest." placeholder:"ID"`
	Scratch string `help:"Where the scratch folder is made." default:"." placeholder:"FOLDER"`
}

// Run implements local.
func (c *muaBackupDrillCmd) Run(ctx context.Context, p *process, all *cli) error {
	show := newBackupProgress(p.stderr)
	r, _, end, err := c.open(ctx, p, all, place.Options{Progress: show.tell})
	if err != nil {
		return err
	}
	defer end()
	report, err := mua.Drill(ctx, r, c.ID, c.Scratch)
	show.end()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "The backup can be restored: %d letters, %d rows; %s compared.\n", report.Compared.Messages, report.Compared.Rows, mebi(report.Compared.Octets))
	return err
}

type muaBackupRestoreCmd struct {
	Account string `arg:"" optional:"" help:"The account in the backup whose letters come back."`
	muaPlace
	asJSON
	All       bool   `help:"Everything, into a folder that is not there yet: on a new computer."`
	ID        string `name:"id" help:"This backup instead of the newest." placeholder:"ID"`
	At        string `help:"The newest backup at or before this time; a day alone means its end." placeholder:"TIME"`
	Into      string `help:"Into this account, instead of the one of the same name." placeholder:"ADDRESS"`
	Folder    string `help:"Only of this folder."`
	MessageID string `name:"message-id" help:"Only letters with this Message-ID." placeholder:"ID"`
	Text      string `help:"Only letters with this in Subject, From, To or Cc; their text is not looked at." placeholder:"WORDS"`
	Since     string `help:"Only letters received at or after this time." placeholder:"TIME"`
	Before    string `help:"Only letters received before this time." placeholder:"TIME"`
	Deleted   bool   `help:"Those that were deleted by then, but could be restored, too."`
	DryRun    bool   `name:"dry-run" help:"Only list what would be restored."`
}

// Help implements kong's HelpProvider.
func (c *muaBackupRestoreCmd) Help() string {
	return `Letters that are here already are left as they are. After --all, nothing that waited in the outbox
is sent by itself. A server's backup can be restored into your mail, too, account by account, and
yours into a server's: poczta backup restore ACCOUNT --into ADDRESS.

  poczta mail backup restore ala@example.org --text invoice --to /media/disk/mail
  poczta mail backup restore --all --to /media/disk/mail --key-file backup.key`
}

// Run implements local: everything is restored here, letters where the folder is open.
func (c *muaBackupRestoreCmd) Run(ctx context.Context, p *process, all *cli) error {
	if c.All == (c.Account != "") {
		return fmt.Errorf("%w: name an account of the backup, or --all", admin.ErrUsage)
	}
	o, err := c.selection()
	if err != nil {
		return err
	}
	if !c.All {
		return runMail(ctx, p, all, c)
	}
	if c.Into+c.Folder+c.MessageID+c.Text+c.Since+c.Before != "" || c.Deleted || c.DryRun {
		return fmt.Errorf("%w: --all restores everything; it goes with --id, --at and the place of the backups alone", admin.ErrUsage)
	}
	if c.To == "" {
		return fmt.Errorf("%w: name the place of the backups with --to", admin.ErrUsage)
	}
	folder, err := all.Mail.folder()
	if err != nil {
		return err
	}
	show := newBackupProgress(p.stderr)
	r, _, end, err := c.open(ctx, p, all, place.Options{Progress: show.tell})
	if err != nil {
		return err
	}
	defer end()
	done, err := mua.Restore(ctx, r, o.ID, o.At, mua.Config{Folder: folder, Ask: p.passphrase(all), VaultFile: all.Mail.SecretsFile}, show.tell)
	show.end()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.stdout, []holdings.Restored{done})
	}
	fmt.Fprintf(p.stdout, "Restored from backup %s of %s into %s: %s.\n", done.Snapshot, done.Time.Local().Format(time.DateTime), folder, counted(done.Messages, "letter"))
	_, err = fmt.Fprintln(p.stdout, "Passwords that lay in a keyring are not in backups: poczta mail password ACCOUNT. What waited in the outbox is held: poczta mail outbox.")
	return err
}

// Do implements maildesk: one account's letters, over open mail.
func (c *muaBackupRestoreCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	o, err := c.selection()
	if err != nil {
		return err
	}
	return d.BackupRestore(ctx, c.where(), o)
}

// selection reads the flags.
func (c *muaBackupRestoreCmd) selection() (o mua.BackupRestoring, err error) {
	o = mua.BackupRestoring{ID: c.ID, Into: c.Into, List: c.DryRun, Selection: holdings.Selection{Account: c.Account, Mailbox: c.Folder, MessageID: c.MessageID, Text: c.Text, Removed: c.Deleted}}
	if c.ID != "" && c.At != "" {
		return o, fmt.Errorf("%w: --id names a backup already; leave --at out", admin.ErrUsage)
	}
	if o.At, err = parseTime("at", c.At, true); err != nil {
		return o, err
	}
	if o.Since, err = parseTime("since", c.Since, false); err != nil {
		return o, err
	}
	o.Before, err = parseTime("before", c.Before, false)
	return o, err
}
