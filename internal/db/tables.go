package db

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// ColumnKind is what a column holds.
type ColumnKind string

// The kinds of columns, as in the macros of Step.
const (
	IntColumn  ColumnKind = "int"
	TextColumn ColumnKind = "text"
	BlobColumn ColumnKind = "blob"
)

// Column is a column of a Table.
type Column struct {
	Name string     `json:"name"`
	Kind ColumnKind `json:"kind"`
}

// Table describes a table as it is in the database, the same on both engines.
type Table struct {
	Name    string   `json:"name"`
	Columns []Column `json:"columns"` // in order of name
	Key     []string `json:"key"`     // the primary key's columns, in its order
	// Generated is the column that the engine numbers ({id}); "" for none.
	Generated string `json:"generated,omitempty"`
}

// Tables describes all ordinary tables, in order of name. The tables of virtual ones (full
// text) are not among them.
func Tables(ctx context.Context, d Database) ([]Table, error) {
	var all []Table
	err := d.View(ctx, func(tx Tx) error {
		all = nil
		query := sqliteTables
		if d.Engine() == "postgresql" {
			query = postgresTables
		}
		rows, err := tx.Query(query)
		if err != nil {
			return err
		}
		defer rows.Close()
		return scanTables(rows, &all)
	})
	if err != nil {
		return nil, fmt.Errorf("describe tables: %w", err)
	}
	for i := range all {
		slices.SortFunc(all[i].Columns, func(a, b Column) int { return strings.Compare(a.Name, b.Name) })
	}
	return all, nil
}

// The queries give table, column, type, place in the primary key (from 1; 0 for none)
// and whether the engine numbers it, in order of table and of place in the key.
const (
	sqliteTables = `SELECT t.name, c.name, c.type, c.pk, CASE WHEN c.pk = 1 AND t.wr = 0 AND c.type = 'INTEGER' AND m.sql LIKE '%AUTOINCREMENT%' THEN 1 ELSE 0 END
		FROM pragma_table_list t JOIN sqlite_master m ON m.name = t.name AND m.type = 'table' JOIN pragma_table_info(t.name) c
		WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY t.name, c.pk, c.name`
	postgresTables = `SELECT t.relname::text COLLATE "C", a.attname::text, format_type(a.atttypid, NULL),
			COALESCE(array_position(i.indkey::int2[], a.attnum) + 1, 0)::bigint, (CASE WHEN a.attidentity = '' THEN 0 ELSE 1 END)::bigint
		FROM pg_catalog.pg_class t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
			LEFT JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisprimary
		WHERE t.relkind = 'r' AND t.relnamespace = current_schema()::regnamespace ORDER BY 1, 4, 2`
)

func scanTables(rows Rows, all *[]Table) error {
	for rows.Next() {
		var table, column, typ string
		var key, generated int64
		if err := rows.Scan(&table, &column, &typ, &key, &generated); err != nil {
			return err
		}
		if n := len(*all); n == 0 || (*all)[n-1].Name != table {
			*all = append(*all, Table{Name: table})
		}
		t := &(*all)[len(*all)-1]
		kind, err := columnKind(typ)
		if err != nil {
			return fmt.Errorf("table %s: column %s: %w", table, column, err)
		}
		t.Columns = append(t.Columns, Column{Name: column, Kind: kind})
		if key > 0 {
			t.Key = append(t.Key, column)
		}
		if generated != 0 {
			t.Generated = column
		}
	}
	return rows.Err()
}

func columnKind(typ string) (ColumnKind, error) {
	switch strings.ToLower(typ) {
	case "integer", "int", "bigint":
		return IntColumn, nil
	case "text":
		return TextColumn, nil
	case "blob", "bytea":
		return BlobColumn, nil
	}
	return "", fmt.Errorf("type %q is none of ours", typ)
}

// Numbered tells the engine, after rows were inserted with numbers of their own, that
// the table's generated column goes on behind them.
func Numbered(ctx context.Context, d Database, t Table) error {
	if t.Generated == "" || d.Engine() != "postgresql" { // SQLite sees for itself
		return nil
	}
	return d.Update(ctx, func(tx Tx) error {
		var n int64
		return tx.QueryRow(`SELECT setval(pg_get_serial_sequence(?, ?), (SELECT COALESCE(MAX(`+t.Generated+`), 0) + 1 FROM `+t.Name+`), false)`,
			t.Name, t.Generated).Scan(&n)
	})
}
