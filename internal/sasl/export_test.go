package sasl

// SetNonce makes x, a SCRAM exchange, use nonce as its half of the nonce.
func SetNonce(x Exchange, nonce string) {
	x.(*scram).nonceOf = func() (string, error) { return nonce, nil }
}
