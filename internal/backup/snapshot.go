package backup

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// snapshotFolder holds the snapshots, named by time and chance.
const (
	snapshotFolder = "snapshots/"
	snapshotForm   = "20060102T150405.000Z"
)

// Snapshot is one backup: what a source held at one moment.
type Snapshot struct {
	ID     string          `json:"id"`
	Time   time.Time       `json:"time"`
	Host   string          `json:"host"`
	Kind   string          `json:"kind"`
	Origin string          `json:"origin"`
	Parent string          `json:"parent,omitempty"`
	Facts  json.RawMessage `json:"facts"`
	Report Report          `json:"report"`

	sections []section
}

// snapshotObject is a snapshot in JSON; a line of the check in hexadecimal digits
// follows it.
type snapshotObject struct {
	Format int `json:"format"`
	Snapshot
	Sections []section `json:"sections"`
}

// Items is how many items a section has, and their octets.
func (s *Snapshot) Items(name string) (items, octets int64) {
	if sec := s.section(name); sec != nil {
		return sec.Items, sec.Octets
	}
	return 0, 0
}

// Sections names the sections, in the order of the source.
func (s *Snapshot) Sections() []string {
	out := make([]string, len(s.sections))
	for i := range s.sections {
		out[i] = s.sections[i].Name
	}
	return out
}

func (s *Snapshot) section(name string) *section {
	for i := range s.sections {
		if s.sections[i].Name == name {
			return &s.sections[i]
		}
	}
	return nil
}

// storeSnapshot writes the object: from then on the snapshot is there.
func (r *Repository) storeSnapshot(ctx context.Context, s *Snapshot) error {
	text, err := json.Marshal(snapshotObject{Format: formatNumber, Snapshot: *s, Sections: s.sections})
	if err != nil {
		return err
	}
	text = append(text, '\n')
	text = fmt.Appendf(text, "%x\n", r.keys.seal(text))
	object, err := r.keys.encrypt(text)
	if err != nil {
		return err
	}
	return r.config.Target.Put(ctx, snapshotFolder+s.ID, object)
}

// Snapshot reads one snapshot; ErrNotFound, ErrDamaged, ErrNewer.
func (r *Repository) Snapshot(ctx context.Context, id string) (*Snapshot, error) {
	s, err := r.readSnapshot(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w", id, err)
	}
	return s, nil
}

func (r *Repository) readSnapshot(ctx context.Context, id string) (*Snapshot, error) {
	if strings.ContainsAny(id, "/\\") || id == "" {
		return nil, fs.ErrNotExist
	}
	object, err := r.config.Target.Get(ctx, snapshotFolder+id, 0, -1)
	if err != nil {
		return nil, err
	}
	text, err := r.keys.decrypt(object)
	if err != nil {
		return nil, err
	}
	end := bytes.IndexByte(text, '\n') + 1
	if want := fmt.Appendf(nil, "%x\n", r.keys.seal(text[:end])); end == 0 || !hmac.Equal(text[end:], want) {
		return nil, ErrDamaged
	}
	var o snapshotObject
	if err := json.Unmarshal(text[:end], &o); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if o.Format > formatNumber {
		return nil, ErrNewer
	}
	if o.ID != id { // one object under another's name
		return nil, ErrDamaged
	}
	o.sections = o.Sections
	return &o.Snapshot, nil
}

// Names returns the names of all snapshots, the oldest first.
func (r *Repository) Names(ctx context.Context) ([]string, error) {
	var names []string
	err := r.config.Target.List(ctx, snapshotFolder, func(o Object) error {
		names = append(names, strings.TrimPrefix(o.Name, snapshotFolder))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// List returns the snapshots, the oldest first. Those that can't be read are left out;
// the error then tells of them beside the list.
func (r *Repository) List(ctx context.Context) ([]*Snapshot, error) {
	names, err := r.Names(ctx)
	if err != nil {
		return nil, err
	}
	var out []*Snapshot
	var broken []error
	for _, n := range names {
		s, err := r.Snapshot(ctx, n)
		switch {
		case errors.Is(err, ErrNotFound): // forgotten meanwhile
		case errors.Is(err, ErrDamaged):
			broken = append(broken, err)
		case err != nil:
			return nil, err
		default:
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b *Snapshot) int { return a.Time.Compare(b.Time) })
	return out, errors.Join(broken...)
}

// At returns the newest snapshot that is not younger than at; the zero time stands for
// the newest of all. kind, when it is not empty, is the Source's. Snapshots that
// can't be read are passed over. ErrNotFound.
func (r *Repository) At(ctx context.Context, kind string, at time.Time) (*Snapshot, error) {
	all, err := r.List(ctx)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	for _, s := range slices.Backward(all) {
		if (kind == "" || s.Kind == kind) && (at.IsZero() || !s.Time.After(at)) {
			return s, nil
		}
	}
	if at.IsZero() {
		return nil, fmt.Errorf("%w: no backup of kind %q was made yet", ErrNotFound, kind)
	}
	return nil, fmt.Errorf("%w: no backup was made at or before %s", ErrNotFound, at.Format(time.RFC3339))
}

// snapshotID is the name of a snapshot made at t.
func snapshotID(t time.Time) string {
	return t.UTC().Format(snapshotForm) + "-" + randomName()[:8]
}
