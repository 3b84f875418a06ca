package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
)

type backupRestoreCmd struct {
	Account string `arg:"" optional:"" help:"Login or address of an account in the backup."`
	backupPlace
	asJSON
	All       bool   `help:"Everything, into an empty data folder."`
	ID        string `name:"id" help:"This backup instead of the newest." placeholder:"ID"`
	At        string `help:"The newest backup at or before this time; a day alone means its end." placeholder:"TIME"`
	Into      string `help:"Into this account, instead of the one of the same name." placeholder:"ADDRESS"`
	Mailbox   string `help:"Only of this mailbox." placeholder:"MAILBOX"`
	UniqueID  string `name:"unique-id" help:"Only the message with this unique-id." placeholder:"ID"`
	MessageID string `name:"message-id" help:"Only messages with this Message-ID." placeholder:"ID"`
	Text      string `help:"Only messages with this in Subject, From, To or Cc." placeholder:"WORDS"`
	Since     string `help:"Only messages received at or after this time." placeholder:"TIME"`
	Before    string `help:"Only messages received before this time." placeholder:"TIME"`
	Deleted   bool   `help:"Those that were deleted, but in retention, too."`
	Create    bool   `help:"Make the account when it does not exist any more, with its password and all that was its own at the time."`
	DryRun    bool   `name:"dry-run" help:"Only list what would be restored."`
}

// Help implements kong's HelpProvider.
func (c *backupRestoreCmd) Help() string {
	return `Messages keep their mailboxes, unique-ids, flags and times; what the account has already
is left as it is. Restoring everything begins a new epoch (UIDVALIDITY rises), and holds
what was queued: a restored server sends nothing by itself.

  poczta backup restore ala@example.org --at 2026-11-20
  poczta backup restore ala@example.org --message-id '<1234@example.com>'
  poczta backup restore ala@example.org --into archive@example.org --text invoice
  poczta backup restore --all --to s3://bucket/poczta --key-file backup.key     # a new machine`
}

// Run implements local: everything is restored here, letters where the rooms are.
func (c *backupRestoreCmd) Run(ctx context.Context, p *process, all *cli) error {
	if c.All == (c.Account != "") {
		return fmt.Errorf("%w: name an account of the backup, or --all", admin.ErrUsage)
	}
	if _, err := c.selection(); err != nil {
		return err
	}
	if !c.All {
		return runDesk(ctx, p, all, c)
	}
	if c.Into+c.Mailbox+c.UniqueID+c.MessageID+c.Text+c.Since+c.Before != "" || c.Deleted || c.DryRun || c.Create {
		return fmt.Errorf("%w: --all restores everything; it goes with --id, --at and the place of the backups alone", admin.ErrUsage)
	}
	return c.restoreAll(ctx, p, all)
}

// selection reads the flags.
func (c *backupRestoreCmd) selection() (sel admin.BackupSelection, err error) {
	sel = admin.BackupSelection{ID: c.ID, Into: c.Into, List: c.DryRun, Make: c.Create, Selection: holdings.Selection{Account: c.Account, Mailbox: c.Mailbox,
		UniqueID: c.UniqueID, MessageID: c.MessageID, Text: c.Text, Removed: c.Deleted}}
	if c.ID != "" && c.At != "" {
		return sel, fmt.Errorf("%w: --id names a backup already; leave --at out", admin.ErrUsage)
	}
	if sel.At, err = parseTime("at", c.At, true); err != nil {
		return sel, err
	}
	if sel.Since, err = parseTime("since", c.Since, false); err != nil {
		return sel, err
	}
	sel.Before, err = parseTime("before", c.Before, false)
	return sel, err
}

// Output implements printer.
func (c *backupRestoreCmd) Output(p *process) (io.Writer, func(error) error, error) {
	return showBackup(p, c.JSON)
}

// Work implements desk.
func (c *backupRestoreCmd) Work(ctx context.Context, d *admin.Desk) error {
	sel, err := c.selection()
	if err != nil {
		return err
	}
	return d.BackupRestore(ctx, c.backupPlace.admin(), sel)
}

// restoreAll restores everything. When there is no configuration, that of the backup is
// written first.
func (c *backupRestoreCmd) restoreAll(ctx context.Context, p *process, all *cli) error {
	show := newBackupProgress(p.stderr)
	r, conf, end, err := c.open(ctx, all, place.Options{Progress: show.tell})
	if err != nil {
		return err
	}
	defer end()
	sel, _ := c.selection()
	s, err := admin.ChooseBackup(ctx, r, sel.ID, sel.At)
	if err != nil {
		return err
	}
	if conf == nil {
		if conf, err = c.configuration(ctx, r, s, all.Config); err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "The configuration of the backup is now %s.\n", all.Config)
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	done, err := daemon.Restore(ctx, conf, daemon.RoomOptions{Logger: log}, r, s, show.tell)
	show.end()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.stdout, []holdings.Restored{done})
	}
	printRestored(p.stdout, done)
	if os.Geteuid() == 0 {
		if uid, _, exists, err := daemon.Owner(conf.Data); err == nil && exists && uid == 0 {
			fmt.Fprintf(p.stdout, "The data folder %s belongs to root; give it to the server's user: chown -R poczta: %s\n", conf.Data, conf.Data)
		}
	}
	return nil
}

// configuration writes the backup's configuration to file and loads it.
func (c *backupRestoreCmd) configuration(ctx context.Context, r *backup.Repository, s *backup.Snapshot, file string) (*config.Config, error) {
	text, err := daemon.BackupConfiguration(ctx, r, s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; write one to %s, then run the same command again", err, file)
	}
	if err != nil {
		return nil, err
	}
	if _, err := config.Parse(file, text); err != nil {
		return nil, fmt.Errorf("the configuration in the backup does not suit this program: %w; write one to %s, then run the same command again", err, file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	if err := writeNew(file, text); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return config.Load(file)
}

// writeNew writes a file that is not there yet: whole, or not at all.
func writeNew(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*.part")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o640), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // best effort: the error says what went wrong
	}
	return err
}

// backupProgress tells how far a backup, a verification or a restore has come: a bar on a
// terminal, else a line now and then. Used by one goroutine.
type backupProgress struct {
	w     io.Writer
	bar   *progressbar.ProgressBar // nil when w is no terminal, or nothing was told yet
	tty   bool
	began time.Time
	told  time.Time
}

func newBackupProgress(w io.Writer) *backupProgress {
	g := &backupProgress{w: w, began: time.Now(), told: time.Now()}
	if f, ok := w.(*os.File); ok {
		g.tty = term.IsTerminal(int(f.Fd()))
	}
	return g
}

// tell is called with progress.
func (g *backupProgress) tell(p backup.Progress) {
	every := lineEvery
	if g.tty {
		every = drawEvery
	}
	now := time.Now()
	if now.Sub(g.told) < every {
		return
	}
	g.told = now
	seconds := max(now.Sub(g.began).Seconds(), 0.001)
	if !g.tty {
		fmt.Fprintf(g.w, "%s: %d items, %s, %s/s%s\n", p.Step, p.Items, mebi(p.Octets), mebi(int64(float64(p.Octets)/seconds)), g.left(p, seconds))
		return
	}
	if g.bar == nil {
		g.bar = progressbar.NewOptions64(-1, progressbar.OptionSetWriter(g.w), progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true),
			progressbar.OptionShowTotalBytes(true), progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(24))
	}
	if p.TotalOctets > p.Octets {
		g.bar.ChangeMax64(p.TotalOctets)
	}
	g.bar.Describe(fmt.Sprintf("%s, %d items", p.Step, p.Items))
	_ = g.bar.Set64(p.Octets)
}

// left is the time left, when the total is known.
func (g *backupProgress) left(p backup.Progress, seconds float64) string {
	if p.TotalOctets <= p.Octets || p.Octets == 0 {
		return ""
	}
	left := time.Duration(seconds * float64(p.TotalOctets-p.Octets) / float64(p.Octets) * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf(", %s left", left)
}

// end removes the bar.
func (g *backupProgress) end() {
	if g.bar != nil {
		_ = g.bar.Clear()
		g.bar = nil
	}
}
