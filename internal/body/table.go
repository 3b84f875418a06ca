package body

import (
	"context"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Schema is the tables of this package. The table body says where each body lies
// and how many rows of other tables name it; body_chunk holds the octets of
// bodies that Rows keeps. There is no index by segment: Merge and Check read the
// table in pages by id, so that Accept writes one tree only.
var Schema = db.Component{
	Name: "body",
	Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE body (
	id {blob} NOT NULL PRIMARY KEY,
	segment {text} NOT NULL,
	start {int} NOT NULL,
	stored {int} NOT NULL,
	octets {int} NOT NULL,
	sha256 {blob} NOT NULL,
	dots {int} NOT NULL,
	refs {int} NOT NULL
) {rowid};
CREATE TABLE body_chunk (
	id {blob} NOT NULL,
	n {int} NOT NULL,
	crc {int} NOT NULL,
	octets {blob} NOT NULL,
	PRIMARY KEY (id, n)
) {strict}`}},
}

const locationColumns = `segment, start, stored, octets, sha256, dots`

// Lookup returns where the body lies, or ErrNotFound.
func Lookup(tx db.Tx, id message.ID) (Location, error) {
	var loc Location
	var sum []byte
	err := tx.QueryRow(`SELECT `+locationColumns+` FROM body WHERE id = ?`, id[:]).
		Scan(&loc.Segment, &loc.Offset, &loc.Stored, &loc.Octets, &sum, &loc.Dots)
	if errors.Is(err, db.ErrNotFound) {
		return Location{}, fmt.Errorf("look up body %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Location{}, fmt.Errorf("look up body %s: %w", id, err)
	}
	copy(loc.SHA256[:], sum)
	return loc, nil
}

// locateIn returns the usual Config.Locate: Lookup in a view of database.
func locateIn(database db.Database) func(context.Context, message.ID) (Location, error) {
	return func(ctx context.Context, id message.ID) (loc Location, err error) {
		err = database.View(ctx, func(tx db.Tx) error {
			loc, err = Lookup(tx, id)
			return err
		})
		return loc, err
	}
}

// bodyRow is one row of the table body.
type bodyRow struct {
	id  message.ID
	loc Location
}

// pageRows is how many rows eachRow reads in one view.
const pageRows = 2000

// eachRow calls fn for every row of the table body in order of id. Each page is a
// view of its own, so rows written meanwhile may be seen or not.
func eachRow(ctx context.Context, database db.Database, fn func(bodyRow) error) error {
	var after message.ID
	for {
		page, err := readPage(ctx, database, after)
		if err != nil {
			return fmt.Errorf("read table body: %w", err)
		}
		for _, row := range page {
			if err := fn(row); err != nil {
				return err
			}
		}
		if len(page) < pageRows {
			return nil
		}
		after = page[len(page)-1].id
	}
}

// readPage reads the rows that follow the id after.
func readPage(ctx context.Context, database db.Database, after message.ID) (page []bodyRow, err error) {
	err = database.View(ctx, func(tx db.Tx) error {
		page = page[:0]
		rows, err := tx.Query(`SELECT id, `+locationColumns+` FROM body WHERE id > ? ORDER BY id LIMIT ?`, after[:], int64(pageRows))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var row bodyRow
			var id, sum []byte
			if err := rows.Scan(&id, &row.loc.Segment, &row.loc.Offset, &row.loc.Stored, &row.loc.Octets, &sum, &row.loc.Dots); err != nil {
				return err
			}
			copy(row.id[:], id)
			copy(row.loc.SHA256[:], sum)
			page = append(page, row)
		}
		return rows.Err()
	})
	return page, err
}
