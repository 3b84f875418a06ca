package intake

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/verp"
)

// CheckVERP judges XVERP of a MAIL command, where it was given: what comes back to the
// paths it makes must reach whom mail for the reverse-path reaches, as a subaddress. It
// refuses the parameter with 501 5.5.4. Other errors are temporary.
func (in *Intake) CheckVERP(ctx context.Context, env *envelope.Envelope) error {
	sep := in.c.Separator
	why := ""
	switch {
	case env.VERP == "":
		return nil
	case env.ReversePath.IsNull():
		why = "XVERP needs a reverse-path that is not null"
	case sep == "":
		why = "XVERP needs subaddresses, which are turned off here (smtp.subaddress_separator)"
	case string(env.VERP[:1]) != sep:
		why = fmt.Sprintf("The first delimiter of XVERP must be %s, which parts subaddresses here, or reports would not come back; write XVERP=%s%s", sep, sep, env.VERP[1:])
	case strings.Contains(env.ReversePath.Address().Local(), sep):
		why = "XVERP needs a reverse-path without a subaddress"
	default:
		_, err := in.c.Router.Route(ctx, address.NewForwardPath(env.ReversePath.Address()))
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, account.ErrNotLocal) && !errors.Is(err, account.ErrUnknownUser) && !errors.Is(err, account.ErrDisabled) && !errors.Is(err, account.ErrLoop):
			return fmt.Errorf("look up where reports to %s go: %w", env.ReversePath, err)
		}
		why = "XVERP needs a reverse-path whose mail arrives here"
	}
	return in.refused(Refuse(501, 5, 4, why, nil))
}

// ownPath gives a recipient its own reverse-path, where XVERP asks for it.
func (t *Transaction) ownPath(r *envelope.Recipient) error {
	if t.env.VERP == "" || t.env.ReversePath.IsNull() {
		return nil
	}
	a, err := verp.Path(t.env.ReversePath.Address(), r.ForwardPath, t.env.VERP)
	if err != nil {
		return Refuse(553, 1, 3, fmt.Sprintf("The address is too long for XVERP: a reverse-path has %d octets at most; send to it without XVERP", address.MaxPathOctets), err)
	}
	r.ReversePath = address.NewReversePath(a)
	return nil
}

// pathFor is the reverse-path of a recipient's copy.
func (t *Transaction) pathFor(r *envelope.Recipient) address.ReversePath {
	if !r.ReversePath.IsNull() {
		return r.ReversePath
	}
	return t.env.ReversePath
}
