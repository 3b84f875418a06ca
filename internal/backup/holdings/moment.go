package holdings

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Moment is a store as it was when Open returned: a backup.Source. What is delivered,
// removed, purged and merged meanwhile does not show. Not for concurrent use. Close it.
type Moment struct {
	c       Config
	at      time.Time
	db      db.Database
	body    body.OpenerAt
	release func()
	facts   facts
}

var _ backup.Source = (*Moment)(nil)

// pageRows is how many rows one View reads; of tables with long rows a page has fewer
// when it takes longer than a View may.
const pageRows = 500

// longRow is from how many octets on a row is kept in pieces.
const longRow = 256 << 10

// Open takes the moment. On SQLite it copies the database to Config.Scratch.
func Open(ctx context.Context, c Config) (*Moment, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	source, ok := c.DB.(momentary)
	if !ok {
		return nil, fmt.Errorf("backup: a database of type %T can't be read at leisure", c.DB)
	}
	m := &Moment{c: c, release: func() {}}
	if s, ok := c.Body.(*body.Segments); ok { // before the database is looked at: see Hold
		m.release, m.body = s.Hold(), s
	}
	var err error
	if m.db, err = source.Moment(ctx, c.Scratch); err != nil {
		m.release()
		return nil, fmt.Errorf("backup: %w", err)
	}
	m.at = c.Now()
	if err := m.prepare(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// prepare finds out what there is.
func (m *Moment) prepare(ctx context.Context) (err error) {
	if m.body == nil { // bodies in rows are read within the moment
		if m.body, err = body.NewRows(body.RowsConfig{DB: m.db}); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
	}
	m.facts = facts{Version: m.c.Version, Engine: m.db.Engine()}
	all, err := db.Tables(ctx, m.db)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	skip := append(engineTables(), m.c.Skip...)
	for _, t := range all {
		if slices.Contains(skip, t.Name) {
			continue
		}
		if len(t.Key) == 0 {
			return fmt.Errorf("backup: table %s has no primary key", t.Name)
		}
		m.facts.Tables = append(m.facts.Tables, t)
	}
	m.facts.Steps, err = steps(ctx, m.db)
	return err
}

// steps reads the last step of each component.
func steps(ctx context.Context, d db.Database) (map[string]int, error) {
	var out map[string]int
	err := d.View(ctx, func(tx db.Tx) error {
		out = make(map[string]int)
		rows, err := tx.Query(`SELECT component, MAX(number) FROM schema_step GROUP BY component`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var n int
			if err := rows.Scan(&name, &n); err != nil {
				return err
			}
			out[name] = n
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read schema of the database: %w", err)
	}
	return out, nil
}

// Time is when the moment was.
func (m *Moment) Time() time.Time { return m.at }

// Close gives back the copy of the database, or the transaction, and lets go of segments.
func (m *Moment) Close() error {
	err := m.db.Close()
	m.release()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// Kind implements backup.Source.
func (m *Moment) Kind() string { return m.c.Kind }

// Origin implements backup.Source.
func (m *Moment) Origin() string { return m.db.StoreID() }

// Facts implements backup.Source.
func (m *Moment) Facts() ([]byte, error) { return json.Marshal(m.facts) }

// Sections implements backup.Source. Files come first and bodies last, so that little is
// lost when a first, long backup is looked into with a broken store.
func (m *Moment) Sections(context.Context) ([]string, error) {
	out := []string{sectionFiles, sectionAccounts}
	for _, t := range m.facts.Tables {
		out = append(out, tablePrefix+t.Name)
	}
	return append(out, sectionBodies), nil
}

// Items implements backup.Source.
func (m *Moment) Items(ctx context.Context, section string, fn func(backup.Item) error) error {
	switch section {
	case sectionFiles:
		return m.files(fn)
	case sectionAccounts:
		return m.accounts(ctx, fn)
	case sectionBodies:
		return m.bodies(ctx, fn)
	}
	t, err := m.facts.table(strings.TrimPrefix(section, tablePrefix))
	if err != nil {
		return err
	}
	return m.table(ctx, t, fn)
}

func (m *Moment) files(fn func(backup.Item) error) error {
	if m.c.Files == nil {
		return nil
	}
	all, err := m.c.Files()
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range all {
		if err := fn(backup.Item{Key: []byte(f.Name), Data: f.Octets}); err != nil {
			return err
		}
	}
	return nil
}

func (m *Moment) accounts(ctx context.Context, fn func(backup.Item) error) error {
	if m.c.Accounts == nil {
		return nil
	}
	return m.c.Accounts(ctx, m.db, func(a Account) error {
		text, err := json.Marshal(a)
		if err != nil {
			return err
		}
		return fn(backup.Item{Key: intKey(int64(a.ID)), Data: text})
	})
}

// table reads a table in pages by its primary key.
func (m *Moment) table(ctx context.Context, t db.Table, fn func(backup.Item) error) error {
	r := newTableReader(t)
	for {
		page, err := r.page(ctx, m.db)
		if err != nil {
			return fmt.Errorf("read table %s: %w", t.Name, err)
		}
		for _, values := range page {
			it, err := r.item(values)
			if err == nil {
				err = fn(it)
			}
			if err != nil {
				return err
			}
		}
		if len(page) == 0 {
			return nil
		}
	}
}

// tableReader reads pages of a table.
type tableReader struct {
	columns int
	key     []int // places of the primary key's columns
	first   string
	next    string
	after   []any // the last row's primary key
	rows    int64
	buf     []byte
	keyBuf  []byte
}

func newTableReader(t db.Table) *tableReader {
	r := &tableReader{columns: len(t.Columns), rows: pageRows}
	at := columns(t)
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	for _, k := range t.Key {
		r.key = append(r.key, at[k])
	}
	key := strings.Join(t.Key, ", ")
	query := `SELECT ` + strings.Join(names, ", ") + ` FROM ` + t.Name
	order := ` ORDER BY ` + key + ` LIMIT ?`
	r.first = query + order
	r.next = query + ` WHERE (` + key + `) > (` + strings.TrimSuffix(strings.Repeat("?, ", len(t.Key)), ", ") + `)` + order
	return r
}

// page reads the rows that follow; none at the end.
func (r *tableReader) page(ctx context.Context, d db.Database) (page [][]any, err error) {
	for {
		page, err = r.read(ctx, d)
		if !errors.Is(err, db.ErrTooLong) || r.rows == 1 {
			break
		}
		r.rows = max(1, r.rows/8) // long rows, or a busy machine
	}
	if err != nil || len(page) == 0 {
		return nil, err
	}
	last := page[len(page)-1]
	r.after = r.after[:0]
	for _, i := range r.key {
		r.after = append(r.after, last[i])
	}
	return page, nil
}

func (r *tableReader) read(ctx context.Context, d db.Database) (page [][]any, err error) {
	err = d.View(ctx, func(tx db.Tx) error {
		page = page[:0]
		query := r.next
		if r.after == nil {
			query = r.first
		}
		rows, err := tx.Query(query, append(slices.Clone(r.after), r.rows)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			values := make([]any, r.columns)
			dest := make([]any, r.columns)
			for i := range values {
				dest[i] = &values[i]
			}
			if err := rows.Scan(dest...); err != nil {
				return err
			}
			page = append(page, values)
		}
		return rows.Err()
	})
	return page, err
}

// item makes an item of a row; it is valid until the next one.
func (r *tableReader) item(values []any) (it backup.Item, err error) {
	r.keyBuf = r.keyBuf[:0]
	for _, i := range r.key {
		if r.keyBuf, err = appendKey(r.keyBuf, values[i]); err != nil {
			return it, err
		}
	}
	r.buf, err = appendRow(r.buf[:0], values)
	if len(r.buf) <= longRow {
		return backup.Item{Key: r.keyBuf, Data: r.buf}, err
	}
	octets := r.buf
	return backup.Item{Key: r.keyBuf, Octets: int64(len(octets)), Volatile: true, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(octets)), nil
	}}, err
}

// storedBody is a row of the table body.
type storedBody struct {
	id   message.ID
	loc  body.Location
	refs int64
}

// bodies reads the table body in pages. The data of an item is its number of
// references; octets under one id never change.
func (m *Moment) bodies(ctx context.Context, fn func(backup.Item) error) error {
	var after message.ID
	for {
		page, err := m.bodyPage(ctx, after)
		if err != nil {
			return fmt.Errorf("read table body: %w", err)
		}
		for i := range page {
			b := &page[i]
			err := fn(backup.Item{Key: b.id[:], Data: binary.AppendUvarint(nil, uint64(b.refs)), Octets: b.loc.Octets,
				Open: func(ctx context.Context) (io.ReadCloser, error) { return m.open(ctx, b) }})
			if err != nil {
				return err
			}
			after = b.id
		}
		if len(page) < pageRows {
			return nil
		}
	}
}

func (m *Moment) bodyPage(ctx context.Context, after message.ID) (page []storedBody, err error) {
	err = m.db.View(ctx, func(tx db.Tx) error {
		page = page[:0]
		rows, err := tx.Query(`SELECT id, segment, start, stored, octets, dots, refs FROM body WHERE id > ? ORDER BY id LIMIT ?`, after[:], int64(pageRows))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var b storedBody
			if err := rows.Scan(&b.id, &b.loc.Segment, &b.loc.Offset, &b.loc.Stored, &b.loc.Octets, &b.loc.Dots, &b.refs); err != nil {
				return err
			}
			page = append(page, b)
		}
		return rows.Err()
	})
	return page, err
}

// open reads a body; damage of the store is damage of the item.
func (m *Moment) open(ctx context.Context, b *storedBody) (io.ReadCloser, error) {
	rd, err := m.body.OpenAt(ctx, b.id, b.loc, 0, -1)
	if err != nil {
		return nil, sourceError(err)
	}
	return &bodyReader{rd}, nil
}

func sourceError(err error) error {
	if errors.Is(err, body.ErrDamaged) || errors.Is(err, body.ErrNotFound) || errors.Is(err, body.ErrNewer) {
		return fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	return err
}

// bodyReader names damage as a backup does.
type bodyReader struct{ io.ReadCloser }

// Read implements io.Reader.
func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = sourceError(err)
	}
	return n, err
}
