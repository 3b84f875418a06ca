package body_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/body/bodytest"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/message"
)

// table is a table of bodies in memory.
type table struct {
	mu   sync.Mutex
	rows map[message.ID]body.Location
}

func newTable() *table { return &table{rows: map[message.ID]body.Location{}} }

func (r *table) set(id message.ID, loc body.Location) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[id] = loc
}

func (r *table) locate(_ context.Context, id message.ID) (body.Location, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	loc, ok := r.rows[id]
	if !ok {
		return loc, body.ErrNotFound
	}
	return loc, nil
}

// open opens a store and closes it at the end of the test.
func open(t testing.TB, config body.Config) *body.Segments {
	t.Helper()
	s, closeIt := opened(t, config)
	t.Cleanup(closeIt)
	return s
}

// opened opens a store, and gives what closes it: a test of a thousand stores must not keep them all.
func opened(t testing.TB, config body.Config) (s *body.Segments, closeIt func()) {
	t.Helper()
	s, err := body.OpenSegments(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := s.Close(); err != nil && !errors.Is(err, disk.ErrPowerCut) {
			t.Errorf("close store: %v", err)
		}
	}
}

// mustCommit commits one message.
func mustCommit(t testing.TB, s body.Store, octets []byte) (message.ID, body.Location) {
	t.Helper()
	id := bodytest.NewID(t)
	loc, err := bodytest.Commit(t.Context(), s, id, nil, octets)
	if err != nil {
		t.Fatal(err)
	}
	return id, loc
}

// readAt reads the whole body where loc says.
func readAt(ctx context.Context, s body.OpenerAt, id message.ID, loc body.Location) ([]byte, error) {
	r, err := s.OpenAt(ctx, id, loc, 0, -1)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	return b.Bytes(), errors.Join(err, r.Close())
}

// scanned is what a scan of the whole log found.
type scanned struct {
	bodies map[message.ID]body.Found
	events []body.Event
	damage []body.Item
	torn   int
}

func scanAll(t testing.TB, s *body.Segments) scanned {
	t.Helper()
	all := scanned{bodies: map[message.ID]body.Found{}}
	err := s.Scan(t.Context(), body.Position{}, func(item body.Item) error {
		switch {
		case item.Torn:
			all.torn++
		case item.Damage != nil:
			all.damage = append(all.damage, item)
		case item.Body != nil:
			all.bodies[item.Body.ID] = *item.Body
		default:
			all.events = append(all.events, item.Events...)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	return all
}

// segmentsIn returns the paths of the segments in a file system, in order.
func segmentsIn(t testing.TB, fsys disk.FS) []string {
	t.Helper()
	var paths []string
	for _, folder := range []string{"body", "body/large"} {
		names, err := fsys.List(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".seg") || strings.HasSuffix(name, ".big") {
				paths = append(paths, folder+"/"+name)
			}
		}
	}
	return paths
}

// pathOf returns where a location's segment lies.
func pathOf(loc body.Location) string {
	if strings.HasSuffix(loc.Segment, ".big") {
		return "body/large/" + loc.Segment
	}
	return "body/" + loc.Segment
}

// keepRow inserts the row of a body.
func keepRow(t *testing.T, d db.Database, id message.ID, loc body.Location) {
	t.Helper()
	if err := d.Update(t.Context(), func(tx db.Tx) error { return body.Insert(tx, id, loc, 1) }); err != nil {
		t.Errorf("insert row: %v", err)
	}
}

// forgetRow deletes the row of a body.
func forgetRow(t *testing.T, d db.Database, id message.ID) {
	t.Helper()
	err := d.Update(t.Context(), func(tx db.Tx) error {
		n, err := tx.Exec(`DELETE FROM body WHERE id = ?`, id[:])
		if err == nil && n != 1 {
			err = fmt.Errorf("%d rows deleted", n)
		}
		return err
	})
	if err != nil {
		t.Errorf("delete row: %v", err)
	}
}

// sortedIDs returns the keys in order.
func sortedIDs[T any](m map[message.ID]T) []message.ID {
	return slices.SortedFunc(maps.Keys(m), func(a, b message.ID) int { return bytes.Compare(a[:], b[:]) })
}

// inOrder returns the ids in order.
func inOrder(ids ...message.ID) []message.ID {
	slices.SortFunc(ids, func(a, b message.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}
