package mua

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"poczta.example/poczta/internal/mailfile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/store/thunderbird"
)

// Export writes the letters that l selects into files: an mbox ("-" is the output), a Maildir or
// .eml files. What is there already is not touched: the place must be new, or a folder empty.
func (d *Desk) Export(ctx context.Context, path, format string, l Listing) error {
	q, err := d.query(ctx, l)
	if err != nil {
		return err
	}
	if l.Text != "" {
		if err := d.upToDate(ctx); err != nil {
			return err
		}
	}
	w, discard, err := d.create(path, format)
	if err != nil {
		return err
	}
	m := newMeter(d, "export")
	done, err := d.Mail.Store.Export(ctx, q, w, func(t store.Transfer) { m.at(t.Letters, 0, t.Octets, 0, "") })
	m.end()
	if err = errors.Join(err, w.Close()); err != nil {
		whole := discard()
		switch {
		case ctx.Err() == nil:
		case whole:
			err = &explained{d.choose("stopped; nothing was written", "przerwano; nic nie zapisano"), err}
		default:
			err = &explained{fmt.Sprintf(d.choose("stopped after %s", "przerwano; zapisano: %s"), d.count(done.Letters)), err}
		}
		return err
	}
	if path != "-" && !d.JSON {
		d.nothing(done.Letters + done.Partial + done.Failed)
	}
	return d.transferred(done, d.choose("{} written", "Zapisano {}"))
}

// create makes what letters are written into. discard takes away what is not whole, and reports
// whether nothing is left.
func (d *Desk) create(path, format string) (w mailfile.Writer, discard func() bool, err error) {
	if path == "-" {
		if format != "mbox" {
			return nil, nil, fmt.Errorf("%w: only --format mbox can be written to the standard output", ErrUsage)
		}
		return mailfile.NewMboxWriter(d.Out), func() bool { return false }, nil
	}
	path = d.path(path)
	remains := func() bool {
		fmt.Fprintf(d.Err, "%s holds only a part of the mail; remove it before the next try\n", path)
		return false
	}
	switch format {
	case "maildir":
		w, err = mailfile.CreateMaildir(path)
		return w, remains, err
	case "eml":
		w, err = mailfile.CreateEML(path)
		return w, remains, err
	case "mbox":
	default:
		return nil, nil, fmt.Errorf("%w: --format %q; say mbox, maildir or eml", ErrUsage, format)
	}
	w, gone, err := mailfile.CreateMbox(path)
	return w, func() bool { return gone() == nil || remains() }, err
}

// transferred says what became of an import or export; the number of letters stands for {} in what.
func (d *Desk) transferred(t store.Transfer, what string) error {
	if d.JSON {
		if err := d.encode(t); err != nil {
			return err
		}
	} else {
		text := strings.Replace(what, "{}", d.count(t.Letters), 1) + ", " + size(t.Octets)
		if t.Duplicates > 0 {
			text += fmt.Sprintf(d.choose("; %d were here already", "; już tu były: %d"), t.Duplicates)
		}
		if t.Partial > 0 {
			text += fmt.Sprintf(d.choose("; %d left out, of which only the header section is here (read them first)", "; pominięto takie, których tylko nagłówek jest tutaj: %d (najpierw je otwórz)"), t.Partial)
		}
		fmt.Fprintln(d.Err, text+".")
	}
	for _, f := range t.Failures {
		fmt.Fprintln(d.Err, printable(f))
	}
	if t.Failed > 0 {
		return fmt.Errorf(d.choose("%d letters could not be read and were left out; all others are there", "pominięto listy, których nie dało się odczytać: %d; wszystkie inne są na miejscu"), t.Failed)
	}
	return nil
}

// ImportFrom says what Import reads and where it goes.
type ImportFrom struct {
	Path, Account string
	Folder, Below string // see store.ImportOptions
	Only          string // of a Thunderbird profile: this account of it
}

// Import reads an mbox file, a Maildir, .eml files or a Thunderbird profile into an account. It may
// be stopped and repeated: nothing comes twice into a folder, nor into INBOX what lies in another. Where there
// is no account, an archive is made.
func (d *Desk) Import(ctx context.Context, from ImportFrom) error {
	path := d.path(from.Path)
	a, err := d.importInto(ctx, from.Account, path)
	if err != nil {
		return err
	}
	m := newMeter(d, "import")
	o := store.ImportOptions{Folder: from.Folder, Below: from.Below, Progress: func(t store.Transfer) { m.at(t.Letters, 0, t.Done, t.Total, "") }}
	var done store.Transfer
	p, err := thunderbirdAt(path)
	if errors.Is(err, thunderbird.ErrProfile) {
		done, err = d.Mail.Store.Import(ctx, a.ID, path, o)
		err = notMail(path, err)
	} else if err == nil {
		for _, t := range p.Accounts {
			if from.Only != "" && t.Name != from.Only || len(t.Folders) == 0 {
				continue
			}
			fmt.Fprintf(d.Err, "%s\n", flat(t.Name))
			one, terr := d.Mail.Store.ImportThunderbird(ctx, a.ID, t, o)
			done = sum(done, one)
			if err = terr; err != nil {
				break
			}
		}
	}
	m.end()
	if err != nil {
		if done.Letters > 0 {
			fmt.Fprintf(d.Err, d.choose("%s imported; run the same command again to go on, nothing comes twice.\n", "Wczytano %s; uruchom to samo polecenie jeszcze raz, a dokończy; nic nie przyjdzie dwa razy.\n"), d.count(done.Letters))
		}
		if ctx.Err() != nil {
			err = &explained{d.choose("stopped; run the same command again, and it goes on where it was", "przerwano; uruchom to samo polecenie jeszcze raz, a pójdzie dalej od tego miejsca"), err}
		}
		return err
	}
	if err := d.index(ctx); err != nil {
		return err
	}
	return d.transferred(done, d.choose("{} imported", "Wczytano {}"))
}

// thunderbirdAt opens the Thunderbird profile at a path; thunderbird.ErrProfile when it is none.
func thunderbirdAt(path string) (*thunderbird.Profile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	if !info.IsDir() {
		return nil, thunderbird.ErrProfile
	}
	return thunderbird.Open(path)
}

func sum(a, b store.Transfer) store.Transfer {
	a.Letters, a.Octets, a.Duplicates, a.Failed = a.Letters+b.Letters, a.Octets+b.Octets, a.Duplicates+b.Duplicates, a.Failed+b.Failed
	a.Failures = append(a.Failures, b.Failures...)
	return a
}
