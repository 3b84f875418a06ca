package admin

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"

	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
)

// VerdictRow is a decision of the filters and what it rests on.
type VerdictRow struct {
	Action   string        `json:"action"`
	Score    float64       `json:"score"`
	Rule     string        `json:"rule"`
	Evidence []EvidenceRow `json:"evidence"`
}

// EvidenceRow is a piece of evidence, the weightiest first.
type EvidenceRow struct {
	Points  float64 `json:"points"`
	Name    string  `json:"name"`
	Meaning string  `json:"meaning"`
	Detail  string  `json:"detail"`
}

func verdictRow(t filter.Told) VerdictRow {
	row := VerdictRow{Action: t.Action.String(), Score: tenths(t.Score), Rule: t.Rule, Evidence: []EvidenceRow{}}
	for _, e := range t.Evidence {
		row.Evidence = append(row.Evidence, EvidenceRow{tenths(e.Points), string(e.Name), verdict.Rows[e.Name].Meaning, e.Detail})
	}
	return row
}

// tenths rounds points as they are shown.
func tenths(x float64) float64 { return math.Round(x*10) / 10 }

// eventRow is an event, a decision of the filters with its parts.
func eventRow(e trace.Event, recipient string) EventRow {
	row := EventRow{At: stamp(e.At), Recipient: recipient, Kind: e.Kind, Detail: e.Detail}
	if e.Kind == filter.KindVerdict {
		if told, ok := filter.ParseVerdict(e.Detail); ok {
			v := verdictRow(told)
			row.Verdict = &v
		}
	}
	return row
}

// tellVerdict prints a decision of the trace.
func (d *Desk) tellVerdict(e EventRow) {
	of := ""
	if e.Recipient != "" {
		of = " for " + e.Recipient
	}
	d.say("  what the filters decided%s, %s: %s", of, e.At, e.Verdict.decision())
	d.evidence("    ", e.Verdict.Evidence)
}

// decision is a verdict in one line.
func (v VerdictRow) decision() string {
	if strings.HasPrefix(v.Rule, "score ") {
		return v.Action + ", since the " + v.Rule
	}
	if strings.Contains(v.Rule, " ") { // a sentence, no name
		return fmt.Sprintf("%s: %s; score %.1f", v.Action, v.Rule, v.Score)
	}
	return fmt.Sprintf("%s, by %s; score %.1f", v.Action, v.Rule, v.Score)
}

// evidence prints evidence in columns.
func (d *Desk) evidence(indent string, rows []EvidenceRow) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	for _, e := range rows {
		what := e.Meaning
		if what == "" {
			what = "unknown to this program"
		}
		if e.Detail != "" {
			what = strings.TrimSuffix(what, ".") + ": " + e.Detail
		}
		fmt.Fprintf(w, "%+.1f\t%s\t%s\n", e.Points, e.Name, Printable(what))
	}
	_ = w.Flush() // memory takes it
	for line := range strings.Lines(text.String()) {
		d.say("%s%s", indent, strings.TrimRight(line, " \n"))
	}
}
