package sasl

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strconv"
	"strings"

	xscram "github.com/xdg-go/scram"
)

// maxIterations bounds the work that a server can ask of a client: about half a second.
const maxIterations = 1_000_000

// scramClient is SCRAM-SHA-256, with or without channel binding (RFC 5802, 7677).
func scramClient(name string, c Credentials, o ClientOptions) (*Client, error) {
	client, err := xscram.SHA256.NewClient(c.Username, c.Password, "")
	if err != nil {
		return nil, fmt.Errorf("prepare the password for SCRAM: %w", err)
	}
	var conv *xscram.ClientConversation
	switch {
	case name == ScramSHA256Plus:
		binding, err := clientBinding(o.TLS)
		if err != nil {
			return nil, err
		}
		conv = client.NewConversationWithChannelBinding(binding)
	case o.TLS != nil && !slices.Contains(o.Offered, ScramSHA256Plus):
		conv = client.NewConversationAdvertisingChannelBinding() // RFC 5802 §6: "y", against a stripped offer
	default:
		conv = client.NewConversation()
	}
	first, err := conv.Step("")
	if err != nil {
		return nil, fmt.Errorf("begin SCRAM: %w", err)
	}
	next := func(challenge []byte) ([]byte, error) {
		if err := boundIterations(string(challenge)); err != nil {
			return nil, err
		}
		if conv.Done() {
			return nil, ErrChallenge
		}
		answer, err := conv.Step(string(challenge))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrServerProof, err)
		}
		return []byte(answer), nil
	}
	return &Client{name: name, initial: []byte(first), next: next, proven: conv.Valid}, nil
}

// clientBinding chooses tls-exporter under TLS 1.3 and tls-unique below (RFC 9266 §3).
func clientBinding(state *tls.ConnectionState) (xscram.ChannelBinding, error) {
	b := BindingOf(state, nil)
	switch {
	case len(b.Exporter) > 0:
		return xscram.NewTLSExporterBinding(state)
	case len(b.Unique) > 0:
		return xscram.NewTLSUniqueBinding(b.Unique), nil
	}
	return xscram.NewTLSServerEndpointBinding(state)
}

// boundIterations refuses a server-first-message that asks for too much work;
// too little, below 4096 (RFC 7677 §4), the library refuses.
func boundIterations(challenge string) error {
	for attr := range strings.SplitSeq(challenge, ",") {
		if v, ok := strings.CutPrefix(attr, "i="); ok {
			if n, err := strconv.Atoi(v); err != nil || n > maxIterations {
				return fmt.Errorf("%w: SCRAM with %.20s iterations", ErrChallenge, v)
			}
		}
	}
	return nil
}
