package report

import (
	"net/netip"
	"time"

	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/message"
)

// strangerHeader is how much of a stranger's header section a report of success returns, in octets.
const strangerHeader = 8 << 10

// strangers are the bounds of what strangers may ask for. NOTIFY=SUCCESS brings a report to
// a reverse-path that nobody has verified, with the header section of their message, under
// our signature: who asks for many uses us to write to somebody else.
type strangers struct {
	networks *limit.Buckets[netip.Prefix]
	readers  *limit.Buckets[string]
}

func newStrangers() (s strangers, err error) {
	if s.networks, err = limit.NewBuckets[netip.Prefix](limit.Rate{Burst: 20, Every: time.Minute}, 0); err != nil {
		return s, err
	}
	s.readers, err = limit.NewBuckets[string](limit.Rate{Burst: 10, Every: 10 * time.Minute}, 0)
	return s, err
}

// asks reports whether a stranger has asked for the report: of success, of a message
// that came in by the network from elsewhere, without a login.
func (s *strangers) asks(o *Original, recipients []dsn.Recipient) bool {
	if a := recipients[0].Action; a == dsn.Failed || a == dsn.Delayed {
		return false
	}
	from := &o.Envelope.Origin
	peer := from.Peer.Addr()
	return o.Foreign || from.Account == 0 && peer.IsValid() && !peer.Unmap().IsLoopback()
}

// allow takes a report from the bounds.
func (s *strangers) allow(o *Original, now time.Time) bool {
	if peer := o.Envelope.Origin.Peer.Addr(); peer.IsValid() && !s.networks.Allow(limit.Networks{}.Of(peer), now) {
		return false
	}
	return s.readers.Allow(o.Envelope.ReversePath.Address().Key(), now)
}

// brief is as many whole fields of a header section as fit.
func brief(header []byte) []byte {
	if len(header) <= strangerHeader {
		return header
	}
	n := 0
	for f := range message.Fields(header) {
		if n+len(f.Raw) > strangerHeader {
			break
		}
		n += len(f.Raw)
	}
	return header[:n]
}
