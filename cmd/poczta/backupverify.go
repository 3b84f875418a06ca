package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
)

type backupVerifyCmd struct {
	backupPlace
	asJSON
	Repair bool `help:"Let the index forget what is damaged, so that the next backup stores it again."`
}

// faultRow is a fault in a list.
type faultRow struct {
	backup.Fault
	Item string `json:"item,omitempty"` // key in hexadecimal digits
}

// Run implements local.
func (c *backupVerifyCmd) Run(ctx context.Context, p *process, all *cli) error {
	show := newBackupProgress(p.stderr)
	r, _, end, err := c.open(ctx, all, place.Options{Progress: show.tell})
	if err != nil {
		return err
	}
	defer end()
	v, err := verifyBackups(ctx, p, r, c.Repair, c.JSON, show, func(v *backup.Verification) string {
		return fmt.Sprintf("%s, %s, %s read%s", counted(int64(v.Packs), "pack"), counted(v.Chunks, "chunk"), mebi(v.Octets), garbage(v.Garbage))
	})
	if v == nil {
		return err
	}
	return errors.Join(err, faultsFound(v, c.Repair, "poczta backup"))
}

// verifyBackups verifies, or repairs, and prints the faults and how much was read, as read says it.
// Nil when nothing can be said of the backups.
func verifyBackups(ctx context.Context, p *process, r *backup.Repository, repair, asJSON bool, show *backupProgress, read func(*backup.Verification) string) (*backup.Verification, error) {
	verify := r.Verify
	if repair {
		verify = r.Repair
	}
	var rows []faultRow
	v, err := verify(ctx, func(f backup.Fault) { rows = append(rows, faultRow{f, fmt.Sprintf("%x", f.Key)}) })
	show.end()
	if err != nil {
		return nil, err
	}
	if asJSON {
		return &v, printJSON(p.stdout, rows)
	}
	if err := explainFaults(ctx, p.stdout, r, rows); err != nil {
		return &v, err
	}
	_, err = fmt.Fprintf(p.stdout, "%s with %s; %s.\n", counted(int64(v.Snapshots), "backup"), counted(v.Items, "item"), read(&v))
	return &v, err
}

// garbage says how much could be freed.
func garbage(octets int64) string {
	if octets < 1<<16 { // less than 0.1 MiB: what prune frees is not worth a word
		return ""
	}
	return "; " + mebi(octets) + " is needed by no backup"
}

// explainFaults prints what is damaged, and then which letters of which backup that concerns.
func explainFaults(ctx context.Context, w io.Writer, r *backup.Repository, rows []faultRow) error {
	var order []string
	bySnapshot := make(map[string][]backup.Fault)
	for _, f := range rows {
		switch {
		case f.Snapshot == "" || f.Object != "":
			fmt.Fprintln(w, printable(f.Text()))
			continue
		case bySnapshot[f.Snapshot] == nil:
			order = append(order, f.Snapshot)
		}
		bySnapshot[f.Snapshot] = append(bySnapshot[f.Snapshot], f.Fault)
	}
	for _, id := range order {
		var list []holdings.Trouble
		s, err := r.Snapshot(ctx, id)
		if err == nil {
			list, err = holdings.Explain(ctx, r, s, bySnapshot[id])
		}
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err != nil { // as it was found
			for _, f := range bySnapshot[id] {
				fmt.Fprintln(w, printable(f.Text()))
			}
		}
		for i := range list {
			fmt.Fprintln(w, printable(list[i].Text()))
		}
	}
	return nil
}

// faultsFound is the error of a verification with faults, with what can be done; command is that of the backups.
func faultsFound(v *backup.Verification, repaired bool, command string) error {
	if v.Faults == 0 {
		return nil
	}
	text := "the backups have " + counted(v.Faults, "fault")
	if repaired {
		text = "the backups had " + counted(v.Faults, "fault") + ", and the index knows now what is damaged"
	} else if v.Damaged > 0 {
		text += "; verify again with --repair"
	}
	if len(v.Healable) > 0 {
		text += "; make a new backup, which stores again what is still here, then verify"
	}
	if lost := v.Beyond(); len(lost) > 0 {
		text += fmt.Sprintf("; what is missing in %s can't be got back: the newest backup is whole, so it was not here any more; all else can be restored; %s prune --forget %s forgets it",
			strings.Join(lost, ", "), command, lost[0])
	}
	return errors.New(text)
}
