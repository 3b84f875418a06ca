package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/mua"
)

// muaCmd is a person's mail program.
type muaCmd struct {
	Data           string `help:"The folder where your mail lies, instead of the system's place for it." env:"POCZTA_MAIL" placeholder:"FOLDER"`
	PassphraseFile string `help:"Read the passphrase of the encrypted file of secrets from the first line of FILE instead of asking." env:"POCZTA_MAIL_PASSPHRASE_FILE" placeholder:"FILE"`
	SecretsFile    bool   `help:"Keep passwords in an encrypted file even where the system has a keyring."`
	Cwd            string `hidden:"" help:"Where relative paths begin."`
	Lang           string `hidden:"" help:"Language of what is said."`
	Terminal       bool   `hidden:"" help:"Draw progress."`
	known          string `kong:"-"` // the passphrase, once this process has asked for it

	Add        muaAddCmd      `cmd:"" help:"Set up an account from its address: finds the servers, tries them, saves."`
	Accounts   muaAccountsCmd `cmd:"" help:"List the accounts."`
	Server     muaServerCmd   `cmd:"" help:"Change an account's servers, or accept a certificate."`
	Password   muaPasswordCmd `cmd:"" help:"Save a new password, after it was tried."`
	Login      muaLoginCmd    `cmd:"" help:"Log in with your browser again (OAuth2)."`
	Policy     muaPolicyCmd   `cmd:"" help:"Show or change what stays on the server, and what is fetched."`
	Remove     muaRemoveCmd   `cmd:"" help:"Forget an account; its letters stay here."`
	Sync       muaSyncCmd     `cmd:"" help:"Fetch new mail."`
	Open       muaOpenCmd     `cmd:"" help:"Read and write in your browser; fetches and sends meanwhile."`
	Folders    muaFoldersCmd  `cmd:"" help:"List the folders."`
	Folder     muaFolderCmd   `cmd:"" help:"Make, rename or remove a folder."`
	List       muaListCmd     `cmd:"" help:"List letters."`
	Read       muaReadCmd     `cmd:"" help:"Show a letter."`
	Search     muaSearchCmd   `cmd:"" help:"Find letters, by their text and that of their attachments."`
	Mark       muaMarkCmd     `cmd:"" help:"Mark letters as read, flagged, answered, or not."`
	Move       muaMoveCmd     `cmd:"" help:"Move letters to a folder."`
	Delete     muaDeleteCmd   `cmd:"" help:"Move letters to Trash; from Trash, out of sight."`
	Restore    muaRestoreCmd  `cmd:"" help:"Bring deleted letters back."`
	Send       muaSendCmd     `cmd:"" help:"Write a letter, answer one, or pass one on."`
	Outbox     muaOutboxCmd   `cmd:"" help:"Letters that wait to be sent."`
	Sendmail   muaSendmailCmd `cmd:"" help:"Take a finished letter as sendmail does, for scripts, git send-email and cron."`
	Rules      muaRulesCmd    `cmd:"" aliases:"rule" help:"Rules that file letters as they arrive."`
	Export     muaExportCmd   `cmd:"" help:"Write letters into an mbox file, a Maildir or .eml files."`
	Import     muaImportCmd   `cmd:"" help:"Add letters from an mbox file, a Maildir, .eml files or a Thunderbird profile."`
	Backup     muaBackupCmd   `cmd:"" help:"Backups of your mail: make, list, verify, restore, drill."`
	Submit     muaSubmitCmd   `cmd:"" hidden:"" help:"What sendmail asks."`
	Ready      muaReadyCmd    `cmd:"" hidden:"" help:"Whether add could save."`
	SaveNew    muaSaveNewCmd  `cmd:"" hidden:"" help:"What add has tried."`
	SaveOld    muaSaveOldCmd  `cmd:"" hidden:"" help:"What add --archive makes."`
	SaveSecret muaSecretCmd   `cmd:"" hidden:"" help:"What password and login have got."`
}

// accountName names one account.
type accountName struct {
	Account string `arg:"" optional:"" help:"Its address or the beginning of it; may be left out when there is only one."`
}

type muaAccountsCmd struct{ asJSON }

func (c *muaAccountsCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	return d.Accounts(ctx)
}

type muaServerCmd struct {
	accountName
	serverFlags
	OutgoingLogin string   `help:"Login name at the outgoing server, when it differs."`
	NoCA          bool     `name:"no-ca" help:"Trust the system's authorities again."`
	Name          string   `help:"Your name, as letters that you send show it."`
	Signature     string   `help:"Text below what you write."`
	Alias         []string `help:"A further address of yours; may be repeated, and replaces those before."`
	Untried       bool     `help:"Save without logging in to try it."`
}

func (c *muaServerCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.Server(ctx, c.Account, mua.ServerChange{Incoming: c.Incoming, Outgoing: c.Outgoing, Security: c.Security, OutgoingSecurity: c.OutgoingSecurity, Login: c.LoginName, OutgoingLogin: c.OutgoingLogin,
		AuthorityFile: c.CA, NoAuthority: c.NoCA, Certificate: c.Cert, Key: c.Key, Accept: c.Accept, AcceptOutgoing: c.AcceptOutgoing,
		Name: c.Name, Signature: c.Signature, Aliases: c.Alias, Untried: c.Untried})
}

// policyFlags say how an account's mail is fetched.
type policyFlags struct {
	Keep         string         `help:"What becomes of mail on the server once it is here: leave, days:N, or fetched (deleted at once)." placeholder:"WHAT"`
	Follow       *bool          `negatable:"" help:"Delete on the server what you delete here for good."`
	HeadersAbove string         `help:"Fetch only the header section of letters over this size until you read them, as in 1MiB; 0 fetches all whole." placeholder:"SIZE"`
	Every        *time.Duration `help:"Time between two looks with sync --watch, as in 10m."`
}

func (p policyFlags) change() (c mua.PolicyChange, err error) {
	c = mua.PolicyChange{Keep: p.Keep, Follow: p.Follow, Every: p.Every}
	if p.HeadersAbove != "" {
		n, err := octets(p.HeadersAbove)
		if err != nil {
			return c, fmt.Errorf("%w: --headers-above: %w", mua.ErrUsage, err)
		}
		c.HeadersAbove = &n
	}
	return c, nil
}

// octets reads a size as people write it.
func octets(s string) (int64, error) {
	units := []struct {
		suffix string
		factor int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1}, {"", 1}}
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			var n float64
			var more string
			if got, _ := fmt.Sscanf(strings.TrimSpace(rest), "%g%s", &n, &more); got != 1 || n < 0 || n > 1e9 {
				break
			}
			return int64(n * float64(u.factor)), nil
		}
	}
	return 0, fmt.Errorf("%q is no size; write as in 500KiB or 1MiB", s)
}

type muaPolicyCmd struct {
	accountName
	policyFlags
	asJSON
	Pause  bool `help:"Do not fetch this account by itself." xor:"pause"`
	Resume bool `help:"Fetch it again." xor:"pause"`
}

func (c *muaPolicyCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	change, err := c.change()
	if err != nil {
		return err
	}
	if c.Pause || c.Resume {
		change.Paused = &c.Pause
	}
	return d.Policy(ctx, c.Account, change)
}

type muaRemoveCmd struct {
	Account string `arg:"" help:"Its address."`
	Letters bool   `help:"Remove its letters here too; they can be restored for 30 days."`
	yes
}

// Prepare implements preparer.
func (c *muaRemoveCmd) Prepare(p *process) error {
	return c.confirm(p, "This would forget the account "+c.Account+" and its password here; mail on the server stays as it is.")
}

func (c *muaRemoveCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.Remove(ctx, c.Account, c.Letters)
}

type muaSyncCmd struct {
	Accounts []string `arg:"" optional:"" name:"account" help:"Only these accounts."`
	Watch    bool     `help:"Go on until Ctrl-C: look again and again."`
	asJSON
}

func (c *muaSyncCmd) lasts() {}

func (c *muaSyncCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	if c.Watch {
		if len(c.Accounts) > 0 {
			return fmt.Errorf("%w: --watch looks at all accounts; leave one alone with: poczta mail policy ACCOUNT --pause", mua.ErrUsage)
		}
		return d.Watch(ctx)
	}
	return d.Sync(ctx, c.Accounts)
}

type muaOpenCmd struct {
	NoBrowser bool `help:"Only print the address."`
	Port      int  `help:"Port on this computer; 0 is any." default:"0"`
}

func (c *muaOpenCmd) lasts() {}

// starts implements starting: the page leads to the first account.
func (c *muaOpenCmd) starts() {}

// Help implements kong's HelpProvider.
func (c *muaOpenCmd) Help() string {
	return `The page is served on this computer alone; where there is no account yet, it leads to the first
one. The address opens it once, within ten minutes; the same command gives another one.`
}

func (c *muaOpenCmd) Do(ctx context.Context, d *mua.Desk) error {
	browse := (&person{}).Browse
	if c.NoBrowser {
		browse = nil
	}
	return d.Open(ctx, c.Port, browse)
}

type muaFoldersCmd struct{ asJSON }

func (c *muaFoldersCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	return d.Folders(ctx)
}

// letterFlags select letters.
type letterFlags struct {
	Account []string `help:"Only those of an account; may be repeated."`
	Folder  string   `help:"Only those in a folder, as poczta mail folders shows them."`
	Unread  bool     `help:"Only those that were not read."`
	Flagged bool     `help:"Only those with a flag."`
}

func (f letterFlags) listing() mua.Listing {
	return mua.Listing{Accounts: f.Account, Folder: f.Folder, Unread: f.Unread, Flagged: f.Flagged}
}

type muaListCmd struct {
	letterFlags
	asJSON
	Threads    bool  `help:"One row for each conversation."`
	Thread     int64 `help:"The letters of one conversation, by its number."`
	Deleted    bool  `help:"Letters that were deleted from Trash and can be restored."`
	Everywhere bool  `help:"Trash and Junk too."`
	Oldest     bool  `help:"The oldest first."`
	Limit      int   `help:"How many." default:"50" short:"n"`
}

// Help implements kong's HelpProvider.
func (c *muaListCmd) Help() string {
	return `The second column: N not read, ! flagged, r answered, f forwarded, @ with attachments, ~ only the header section is here.`
}

func (c *muaListCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	l := c.listing()
	l.Thread, l.Removed, l.Everyone, l.Oldest, l.Limit = c.Thread, c.Deleted, c.Everywhere || c.Thread != 0, c.Oldest, c.Limit
	if c.Threads {
		return d.Threads(ctx, l)
	}
	return d.List(ctx, l)
}

type muaReadCmd struct {
	Letter string `arg:"" help:"Its number in lists."`
	Raw    bool   `help:"The letter as it was sent, with all its fields."`
	Peek   bool   `help:"Do not mark it as read."`
	Save   string `help:"Save its files into FOLDER." placeholder:"FOLDER"`
	asJSON
}

func (c *muaReadCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	return d.Read(ctx, c.Letter, mua.Reading{Raw: c.Raw, Peek: c.Peek, Save: c.Save})
}

type muaSearchCmd struct {
	Words []string `arg:"" help:"What to find." minus:""`
	letterFlags
	asJSON
	Everywhere bool `help:"Trash and Junk too."`
	Limit      int  `help:"How many." default:"50" short:"n"`
}

// Help implements kong's HelpProvider.
func (c *muaSearchCmd) Help() string {
	return `All words must occur: in the subject, the people, the text, the names of attachments or what stands in them.

  poczta mail search invoice march
  poczta mail search '"kind regards" from:ola after:2026-01-01'
  poczta mail search subject:holiday has:attachment -draft`
}

func (c *muaSearchCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	l := c.listing()
	l.Text, l.Everyone, l.Limit = strings.TrimSpace(strings.Join(c.Words, " ")), c.Everywhere, c.Limit
	if l.Text == "" {
		return fmt.Errorf("%w: say what to find", mua.ErrUsage)
	}
	return d.List(ctx, l)
}

// letterArgs name letters.
type letterArgs struct {
	Letters []string `arg:"" name:"letter" help:"Their numbers in lists."`
}

type muaMarkCmd struct {
	letterArgs
	Read       bool `help:"As read."`
	Unread     bool `help:"As not read."`
	Flag       bool `help:"With a flag."`
	Unflag     bool `help:"Without a flag."`
	Answered   bool `help:"As answered."`
	Unanswered bool `help:"As not answered."`
}

func (c *muaMarkCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.Mark(ctx, c.Letters, mua.Marking{Read: c.Read, Unread: c.Unread, Flag: c.Flag, Unflag: c.Unflag, Answered: c.Answered, Unanswered: c.Unanswered})
}

type muaMoveCmd struct {
	Folder string `arg:"" help:"Where to; it is made if it is not there."`
	letterArgs
}

func (c *muaMoveCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.Move(ctx, c.Folder, c.Letters)
}

type muaDeleteCmd struct{ letterArgs }

func (c *muaDeleteCmd) Do(ctx context.Context, d *mua.Desk) error { return d.Delete(ctx, c.Letters) }

type muaRestoreCmd struct{ letterArgs }

func (c *muaRestoreCmd) Do(ctx context.Context, d *mua.Desk) error { return d.Restore(ctx, c.Letters) }

type muaExportCmd struct {
	Path string `arg:"" help:"A new file or folder; - is the standard output."`
	letterFlags
	asJSON
	Format     string `help:"mbox, maildir or eml." enum:"mbox,maildir,eml" default:"mbox"`
	Search     string `help:"Only what a search finds."`
	Everywhere bool   `help:"Trash and Junk too."`
}

func (c *muaExportCmd) lasts() {}

func (c *muaExportCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	l := c.listing()
	l.Text, l.Everyone = c.Search, c.Everywhere
	return d.Export(ctx, c.Path, c.Format, l)
}

type muaImportCmd struct {
	Path    string `arg:"" help:"An mbox file, a Maildir, an .eml file or a folder of them, or a Thunderbird profile."`
	Account string `help:"The account that gets them; may be left out when there is only one."`
	Folder  string `help:"Put all into this folder, also what lies in others already."`
	Below   string `help:"Put the folders that are there below this one."`
	Only    string `help:"Of a Thunderbird profile, only this account of it, as in pop.example.org."`
	asJSON
}

// Help implements kong's HelpProvider.
func (c *muaImportCmd) Help() string {
	return `Where there is no account, an archive is made for the letters: an account that neither fetches nor sends.
It may be stopped and repeated: no folder gets a letter twice. What goes to INBOX is left out where it lies
in another folder of the account already; with --folder or --below only that folder is looked into.`
}

func (c *muaImportCmd) lasts() {}

// starts implements starting: old mail needs no account.
func (c *muaImportCmd) starts() {}

// Prepare implements preparer: what is no mail makes no folder.
func (c *muaImportCmd) Prepare(*process) error { return mua.Importable(c.Path) }

func (c *muaImportCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	return d.Import(ctx, mua.ImportFrom{Path: c.Path, Account: c.Account, Folder: c.Folder, Below: c.Below, Only: c.Only})
}
