package main

import (
	"context"
	"errors"
	"fmt"
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

// meaningRow follows the faults in a list: what they mean for people.
type meaningRow struct {
	holdings.Trouble
	Problem string `json:"problem"` // the sentence that is read without --json
}

// Help implements kong's HelpProvider.
func (c *backupVerifyCmd) Help() string {
	return verifyHelp
}

const verifyHelp = `With --json, one array: the faults as they were found, each with its problem, and then what they mean: letters by
snapshot, account and mailbox, named by their numbers, unique-ids and, where the backup knows them, subjects.`

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
	raw, meanings, err := explainFaults(ctx, r, rows)
	if asJSON {
		list := make([]any, 0, len(rows)+len(meanings))
		for _, f := range rows {
			list = append(list, f)
		}
		for _, t := range meanings {
			list = append(list, meaningRow{t, t.Text()})
		}
		return &v, errors.Join(err, printJSON(p.stdout, list))
	}
	if err != nil {
		return &v, err
	}
	for _, f := range raw {
		fmt.Fprintln(p.stdout, printable(f.Text()))
	}
	for i := range meanings {
		fmt.Fprintln(p.stdout, printable(meanings[i].Text()))
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

// explainFaults finds which letters of which backup faults concern. raw are those that it can't put so.
func explainFaults(ctx context.Context, r *backup.Repository, rows []faultRow) (raw []backup.Fault, meanings []holdings.Trouble, err error) {
	var order []string
	bySnapshot := make(map[string][]backup.Fault)
	for _, f := range rows {
		switch {
		case f.Snapshot == "" || f.Object != "":
			raw = append(raw, f.Fault)
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
			return raw, meanings, err
		}
		if err != nil { // as it was found
			raw = append(raw, bySnapshot[id]...)
		}
		meanings = append(meanings, list...)
	}
	return raw, meanings, nil
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
