package account

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
)

// Limits of an import.
const (
	// MaxImportLineOctets is the longest line of an import, without its end.
	MaxImportLineOctets = 8192
	// importChunk is how many accounts one transaction adds; with three rows each
	// it stays below the limit of the low-priority lane.
	importChunk = 150
	// importIterations are those of passwords that came in the clear, so that an
	// import doesn't take days; the first login raises them.
	importIterations = minimumIterations
)

// ImportFormat is the form of an import's lines.
type ImportFormat uint8

// The values of ImportFormat.
const (
	ImportAuto    ImportFormat = iota // by the first line that is no comment
	ImportCSV                         // address,login,hash-or-password,quota,name
	ImportDovecot                     // user:password:uid:gid:gecos:home:shell:extra (passwd-file)
)

// ImportOptions is how Import works.
type ImportOptions struct {
	Format     ImportFormat
	Domain     address.Domain            // of users without one
	AddDomains bool                      // add domains that are not here yet
	Quota      int64                     // octets, for lines without one
	Report     func(line int, err error) // each bad line, in order of chunks; nil leaves it out
	Progress   func(ImportResult)        // after each chunk; nil leaves it out
}

// ImportResult counts an import's lines, without comments and empty ones.
type ImportResult struct {
	Lines    int // read so far
	Added    int
	Existing int // the address was there already; left as it is
	Bad      int // reported
}

// importRow is a line on its way in.
type importRow struct {
	line int
	row  accountRow
	err  error
}

// Import adds accounts in bulk, one a line, in chunks that let other work pass.
// A bad line is reported with its number and left out; an address that is here
// already is left as it is, so an import can be repeated and continued. Hashes
// are kept until their first login by PLAIN converts them; passwords in the
// clear become keys at once. The error is of the reader, the store, or ctx; what
// was added by then stays.
func (a *Accounts) Import(ctx context.Context, r io.Reader, o ImportOptions) (ImportResult, error) {
	im := importer{a: a, o: o}
	lines := lineReader{r: bufio.NewReaderSize(r, MaxImportLineOctets+2)}
	for {
		text, err := lines.next()
		if err != nil && !errors.Is(err, ErrInvalid) {
			if !errors.Is(err, io.EOF) {
				return im.result, fmt.Errorf("read line %d of import: %w", lines.number, err)
			}
			return im.result, im.flush(ctx)
		}
		if err := im.line(ctx, lines.number, text, err); err != nil {
			return im.result, err
		}
	}
}

// Foreign returns how many accounts wait for their first login with an imported
// hash. Until then they can't log in by SCRAM, so mechanisms of that name are
// better not offered while it is above zero.
func (a *Accounts) Foreign(ctx context.Context) (n int64, err error) {
	err = a.db.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM account WHERE foreign_hash <> ''`).Scan(&n)
	})
	return n, err
}

// importer is the work of one Import.
type importer struct {
	a      *Accounts
	o      ImportOptions
	format ImportFormat
	rows   []importRow
	result ImportResult
}

func (im *importer) line(ctx context.Context, number int, text string, err error) error {
	if err == nil && isComment(text) {
		return nil
	}
	im.result.Lines++
	row := importRow{line: number, err: err}
	if err == nil {
		if im.format == ImportAuto {
			if im.format = im.o.Format; im.format == ImportAuto {
				im.format = guessFormat(text)
			}
		}
		row.row, row.err = im.parse(ctx, text)
	}
	if row.err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if im.rows = append(im.rows, row); len(im.rows) < importChunk {
		return nil
	}
	return im.flush(ctx)
}

// parse reads a line and makes what is to be inserted.
func (im *importer) parse(ctx context.Context, text string) (accountRow, error) {
	var f importFields
	var err error
	if im.format == ImportDovecot {
		f, err = parseDovecot(text)
	} else {
		f, err = parseCSV(text)
	}
	if err != nil {
		return accountRow{}, err
	}
	n := NewAccount{Login: f.login, Name: f.name, Quota: im.o.Quota}
	if n.Address, err = f.parseAddress(im.o.Domain); err != nil {
		return accountRow{}, err
	}
	if f.quota != "" {
		if n.Quota, err = parseOctets(f.quota); err != nil {
			return accountRow{}, err
		}
	}
	row, err := prepareRow(n)
	if err != nil {
		return accountRow{}, err
	}
	p, err := parseImported(f.password, im.format == ImportCSV)
	if err != nil {
		return accountRow{}, err
	}
	if row.foreign = p.hash; p.keys != nil {
		row.keys = *p.keys
		return row, nil
	}
	iterations := importIterations
	if p.plain == "" { // only the salt is made, which app passwords will use
		iterations = im.a.config.Iterations
	}
	row.keys, err = im.a.newKeys(ctx, p.plain, iterations)
	return row, err
}

// flush writes the rows gathered: all in one transaction, or when another writer
// came between each in one of its own.
func (im *importer) flush(ctx context.Context) error {
	if len(im.rows) == 0 {
		return context.Cause(ctx)
	}
	defer func() { im.rows = im.rows[:0] }()
	err := im.write(ctx, im.rows)
	if errors.Is(err, ErrExists) {
		for i := range im.rows {
			err = im.write(ctx, im.rows[i:i+1])
			if errors.Is(err, ErrExists) {
				im.rows[i].err, err = err, nil
			}
			if err != nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("write lines %d to %d of import: %w", im.rows[0].line, im.rows[len(im.rows)-1].line, err)
	}
	for _, r := range im.rows {
		switch {
		case r.err == nil:
			im.result.Added++
		case errors.Is(r.err, errPresent):
			im.result.Existing++
		default:
			im.result.Bad++
			if im.o.Report != nil {
				im.o.Report(r.line, r.err)
			}
		}
	}
	if im.o.Progress != nil {
		im.o.Progress(im.result)
	}
	return nil
}

// errPresent marks a line whose address is an account's already.
var errPresent = errors.New("account is here already")

// write runs one transaction. What it finds out about rows is set only when it
// has committed.
func (im *importer) write(ctx context.Context, rows []importRow) error {
	found := make([]error, len(rows))
	fn := func(tx db.Tx) error {
		for i, r := range rows {
			found[i] = r.err
			if r.err != nil {
				continue
			}
			err := im.insert(tx, r.row)
			if err != nil && !errors.Is(err, errPresent) && !errors.Is(err, ErrNotLocal) && !errors.Is(err, errTaken) {
				return err
			}
			found[i] = err
		}
		return nil
	}
	err := im.a.db.UpdateLow(ctx, fn)
	im.a.bump()
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].err = found[i]
	}
	return nil
}

// errTaken marks a line whose address or login belongs to somebody else.
var errTaken = errors.New("is taken")

// insert adds one account if its names are free, writing nothing otherwise.
func (im *importer) insert(tx db.Tx, row accountRow) error {
	var kind, owner int64
	err := tx.QueryRow(`SELECT kind, account FROM account_name WHERE name = ?`, row.Address.Key()).Scan(&kind, &owner)
	switch {
	case err == nil && kind&kindAddress != 0:
		return errPresent
	case err == nil:
		return fmt.Errorf("address %s %w: it is an alias, or the login of account %d", row.Address, errTaken, owner)
	case !errors.Is(err, db.ErrNotFound):
		return err
	}
	err = tx.QueryRow(`SELECT account FROM account_name WHERE name = ?`, row.key).Scan(&owner)
	if err == nil {
		return fmt.Errorf("login %s %w: by account %d", row.loginName, errTaken, owner)
	}
	if !errors.Is(err, db.ErrNotFound) {
		return err
	}
	if im.o.AddDomains {
		if _, err := im.a.insertDomain(tx, row.Address.Domain()); err != nil {
			return err
		}
	} else if err := needDomain(tx, row.Address.Domain()); err != nil {
		return err
	}
	_, err = im.a.insertAccount(tx, row)
	return err
}
