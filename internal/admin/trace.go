package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/trace"
)

// TraceRow is a message in the trace.
type TraceRow struct {
	ID          string     `json:"id"`
	Accepted    string     `json:"accepted"`
	ReversePath string     `json:"reverse_path"`
	MessageID   string     `json:"message_id"`
	Peer        string     `json:"peer"`
	ConnID      string     `json:"conn_id"`
	Login       string     `json:"login"`
	Octets      int64      `json:"octets"`
	SHA256      string     `json:"sha256"`
	Fates       []FateRow  `json:"fates"`
	Events      []EventRow `json:"events,omitempty"`
	// Dialogues are those of the last failed attempts.
	Dialogues []DialogueRow `json:"dialogues,omitempty"`
}

// DialogueRow is what was said at the last failed attempt for a recipient.
type DialogueRow struct {
	At        string `json:"at"`
	Recipient string `json:"recipient"`
	Text      string `json:"text"`
}

// FateRow is what became of a message for one recipient.
type FateRow struct {
	Recipient string `json:"recipient"`
	Target    string `json:"target"`
	State     string `json:"state"`
	Changed   string `json:"changed"`
	Detail    string `json:"detail"`
}

// EventRow is something that happened on the way.
type EventRow struct {
	At        string `json:"at"`
	Recipient string `json:"recipient"` // "" for the whole message
	Kind      string `json:"kind"`
	Detail    string `json:"detail"`
	// Verdict is the detail of a decision of the filters, read.
	Verdict *VerdictRow `json:"verdict,omitempty"`
}

// Trace tells what became of mail: of an address, a Message-ID, or a queue id. That
// nothing is known is an answer, and no error.
func (d *Desk) Trace(ctx context.Context, what string, limit int) error {
	q := trace.Query{Limit: limit}
	if id, err := message.ParseID(what); err == nil {
		q.ID = id
	} else if strings.HasPrefix(what, "<") && strings.HasSuffix(what, ">") {
		q.MessageID = what
	} else {
		q.Address = what
	}
	operator := trace.Viewer{Operator: true}
	found, err := d.Rooms.Trace.Find(ctx, operator, q)
	if q.Address != "" && (err == nil && len(found) == 0 || notTraced(err)) {
		found, err = d.Rooms.Trace.Find(ctx, operator, trace.Query{MessageID: what, Limit: limit}) // a Message-ID looks like an address
	}
	if err != nil && !notTraced(err) {
		return explain(err, "trace "+what)
	}
	if len(found) == 0 {
		d.say("Nothing is known of %s; the trace of a message is kept %s, its fates %s; what was refused before its end, and floods of what was, are in the log only.",
			what, d.Rooms.Config.Store.TraceKept, d.Rooms.Config.Store.FatesKept)
	}
	var rows []TraceRow
	for _, r := range found {
		row := traceRow(r)
		d.happened(ctx, &row, r)
		rows = append(rows, row)
	}
	if d.JSON {
		return table(d, rows, "", nil)
	}
	for _, r := range rows {
		d.tell(r)
	}
	return nil
}

// happened adds what a message met on its way.
func (d *Desk) happened(ctx context.Context, row *TraceRow, r trace.Record) {
	recipient := func(n int) string {
		if n < 0 || n >= len(r.Fates) {
			return ""
		}
		return r.Fates[n].Recipient
	}
	operator := trace.Viewer{Operator: true}
	if events, err := d.Rooms.Trace.Events(ctx, operator, r.ID); err == nil {
		for _, e := range events {
			row.Events = append(row.Events, eventRow(e, recipient(e.N)))
		}
	}
	if said, err := d.Rooms.Trace.Dialogues(ctx, operator, r.ID); err == nil {
		for _, x := range said {
			row.Dialogues = append(row.Dialogues, DialogueRow{stamp(x.At), recipient(x.N), x.Text})
		}
	}
}

func traceRow(r trace.Record) TraceRow {
	row := TraceRow{ID: r.ID.String(), Accepted: stamp(r.Accepted), ReversePath: r.ReversePath, MessageID: r.MessageID, ConnID: r.ConnID,
		Login: r.Login, Octets: r.Octets}
	if r.Peer.IsValid() {
		row.Peer = r.Peer.String()
	}
	if r.SHA256 != [32]byte{} {
		row.SHA256 = fmt.Sprintf("%x", r.SHA256)
	}
	for _, f := range r.Fates {
		row.Fates = append(row.Fates, FateRow{f.Recipient, f.Target, f.State.String(), stamp(f.Changed), f.Detail})
	}
	return row
}

// tell prints one message for a person.
func (d *Desk) tell(r TraceRow) {
	d.say("%s  %s  <%s>  %d octets", r.Accepted, r.ID, r.ReversePath, r.Octets)
	if r.MessageID != "" {
		d.say("  Message-ID %s", r.MessageID)
	}
	if r.Peer != "" || r.Login != "" {
		from := strings.TrimSuffix(strings.TrimPrefix(r.Login+" at "+r.Peer, " at "), " at ")
		d.say("  came from %s, connection %s", from, r.ConnID)
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	for _, f := range r.Fates {
		to := f.Recipient
		if f.Target != "" {
			to += " → " + f.Target
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Changed, f.State, to, f.Detail)
	}
	for _, e := range r.Events {
		if e.Verdict != nil {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.At, e.Kind, e.Recipient, e.Detail)
	}
	_ = w.Flush() // memory takes it
	for line := range strings.Lines(text.String()) {
		d.say("  %s", strings.TrimRight(line, " \n"))
	}
	for _, e := range r.Events {
		if e.Verdict != nil {
			d.tellVerdict(e)
		}
	}
	for _, x := range r.Dialogues {
		d.say("  what was said at the last failed attempt for %s, %s:", x.Recipient, x.At)
		for line := range strings.Lines(x.Text) {
			d.say("    %s", strings.TrimRight(line, "\r\n"))
		}
	}
}

// notTraced reports whether err says that the trace knows nothing.
func notTraced(err error) bool { return errors.Is(err, trace.ErrNotFound) }
