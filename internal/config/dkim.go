package config

// DKIM says how mail is signed.
type DKIM struct {
	Sign       bool     `toml:"sign" default:"true" doc:"Sign what is submitted, and the server's own reports to other hosts, with the keys of the sender's domain. Off, domains get no keys either."`
	Algorithms []string `toml:"algorithms" default:"ed25519, rsa" doc:"Kinds of keys that a domain gets; each makes a signature of its own. ed25519 is short and quick (RFC 8463), rsa, of 2048 bits, is known to everyone. A change counts for keys made from then on: poczta domain rotate."`
}

// validateDKIM checks the kinds of keys.
func (d *decoder) validateDKIM(c *Config) {
	for _, a := range c.DKIM.Algorithms {
		if a != "ed25519" && a != "rsa" {
			d.problem("dkim.algorithms", "%q is not a kind of key; there are ed25519 and rsa", a)
		}
	}
	if c.DKIM.Sign && len(c.DKIM.Algorithms) == 0 {
		d.problem("dkim.algorithms", "is empty, so that nothing can be signed; write dkim.sign = false to turn signatures off")
	}
}
