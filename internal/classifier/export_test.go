package classifier

import (
	"context"
	"slices"

	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/envelope"
)

// What tests see of the inside.
var (
	Unpack        = unpack
	Subject       = subject
	WithoutFooter = withoutFooter
)

// CheckpointEvery is after how many samples a checkpoint is written.
const CheckpointEvery = checkpointEvery

// Pack is Features.pack.
func (f Features) Pack() []byte { return f.pack() }

// Equal compares features.
func (f Features) Equal(g Features) bool { return slices.Equal(f.hashes, g.hashes) }

// Equal compares what models counted.
func (m *Model) Equal(o *Model) bool {
	return m.spam == o.spam && m.ham == o.ham && m.sums == o.sums && slices.Equal(m.counts, o.counts)
}

// CommonModel is the model of the whole server.
func (c *Classifier) CommonModel() *Model { return c.common.model }

// OwnModel is an account's model; nil while it does not count.
func (c *Classifier) OwnModel(ctx context.Context, id envelope.AccountID) (*Model, error) {
	own, err := c.own(ctx, id)
	if err != nil {
		return nil, err
	}
	return own.tally.model, nil
}

// Cached is how many accounts are in memory, and what their models take.
func (c *Classifier) Cached() (n int, octets int64) {
	for e := c.owns.order.Front(); e != nil; e = e.Next() {
		n++
		if octets += entryOctets; e.Value.(*owned).tally.model != nil {
			octets += e.Value.(*owned).tally.model.Octets()
		}
	}
	return n, octets
}

// Refresh is what Run does every Config.Poll.
func (c *Classifier) Refresh(ctx context.Context) error { return c.refresh(ctx) }

// Parts writes and reads a model as a checkpoint does.
func (m *Model) Parts() [][]byte {
	var parts [][]byte
	for part := 0; part*partSlots < len(m.counts); part++ {
		parts = append(parts, m.appendPart(nil, part))
	}
	return parts
}

// ReadPart is readPart.
func (m *Model) ReadPart(part int, b []byte) error { return m.readPart(part, b) }

// Words are the words of a text.
func Words(s string) []string {
	var out []string
	newBuilder(&content.Content{Text: s}, false).fields(s, func(w []byte) { out = append(out, string(w)) })
	return out
}

// Sorted sorts hashes as features do.
func Sorted(hashes []uint32) []uint32 { return sorted(hashes) }
