package rebuild

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"poczta.example/poczta/internal/disk"
)

// sidecars are what SQLite keeps beside a database.
var sidecars = []string{"", "-wal", "-shm"}

// Finish puts a database that Run has made into its place, if there is one, and
// returns the name under which the old one is kept, "" for none. It is called
// before a database is opened, so that a rebuild that was killed in its last step
// is completed. A kill at any moment leaves what the next Finish completes.
func Finish(fsys disk.FS, database string) (old string, err error) {
	names, err := fsys.List(".")
	if err != nil {
		return "", fmt.Errorf("look for a rebuilt database: %w", err)
	}
	ready := slices.DeleteFunc(names, func(n string) bool { return !isReady(n, database) })
	if len(ready) == 0 {
		return "", nil
	}
	newest := ready[len(ready)-1]
	at := strings.TrimPrefix(newest, database+readySign)
	for _, suffix := range sidecars {
		err := fsys.Rename(database+suffix, database+brokenSign+at+suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return old, fmt.Errorf("set old database aside: %w", err)
		}
		if suffix == "" {
			old = database + brokenSign + at
		}
	}
	// The old log must be away before the new database stands beside it.
	if err := fsys.SyncDir("."); err != nil {
		return old, fmt.Errorf("set old database aside: %w", err)
	}
	if err := fsys.Rename(newest, database); err != nil {
		return old, fmt.Errorf("put rebuilt database in place: %w", err)
	}
	if err := fsys.SyncDir("."); err != nil {
		return old, fmt.Errorf("put rebuilt database in place: %w", err)
	}
	return old, nil
}

func isReady(name, database string) bool {
	return strings.HasPrefix(name, database+readySign) && strings.HasSuffix(name, "Z")
}

// dropUnfinished removes what an earlier Run left. A database that it had made and
// that was not put in place is older than what Run will make.
func dropUnfinished(fsys disk.FS, database string) error {
	names, err := fsys.List(".")
	if err != nil {
		return fmt.Errorf("list data folder: %w", err)
	}
	for _, n := range names {
		if !strings.HasPrefix(n, database+readySign) {
			continue
		}
		if err := fsys.Remove(n); err != nil {
			return fmt.Errorf("remove unfinished rebuild: %w", err)
		}
	}
	return removeWork(fsys)
}

// removeWork removes the work files.
func removeWork(fsys disk.FS) error {
	for _, suffix := range sidecars {
		if err := fsys.Remove(workFolder + "/" + workFile + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove work file of rebuild: %w", err)
		}
	}
	if err := fsys.Remove(workFolder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove work folder of rebuild: %w", err)
	}
	return nil
}
