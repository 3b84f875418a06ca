package digest

import (
	"context"
	"errors"
	"net/http"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
)

// Run sends digests each day at Config.At until ctx ends.
func (d *Digest) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Send sends the digests of a day.
func (d *Digest) Send(ctx context.Context) (sent int, err error) { return 0, errors.ErrUnsupported }

// ServeHTTP shows a message on GET and acts on POST.
func (d *Digest) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	http.Error(w, "", http.StatusNotImplemented)
}

// Message is a mail that came to Config.Release.
type Message struct {
	// Account is the authenticated account that submitted it, 0 for none.
	Account envelope.AccountID
	// From is the address in its From field (or the reverse-path) if that is proven, by DMARC or by
	// aligned SPF or DKIM; zero when it is not.
	From   address.Address
	Header []byte // as received
	Text   string // the visible text; content.Content's
}

// Take does what a mail to Config.Release asks for.
func (d *Digest) Take(ctx context.Context, m Message) (released int, err error) {
	return 0, errors.ErrUnsupported
}
