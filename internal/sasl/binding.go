package sasl

import (
	"crypto"
	_ "crypto/sha256" // hashes of tls-server-end-point
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
)

// exporterLabel and exporterOctets make tls-exporter data. RFC 9266 §4.2
const (
	exporterLabel  = "EXPORTER-Channel-Binding"
	exporterOctets = 32
)

// Binding is a connection's channel binding data by type; a nil field
// is a type the connection doesn't have.
type Binding struct {
	Exporter       []byte // tls-exporter, RFC 9266
	Unique         []byte // tls-unique, RFC 5929 §3; TLS 1.2 and below only
	ServerEndPoint []byte // tls-server-end-point, RFC 5929 §4
}

// IsZero reports whether there is no channel binding at all.
func (b Binding) IsZero() bool {
	return len(b.Exporter) == 0 && len(b.Unique) == 0 && len(b.ServerEndPoint) == 0
}

// data returns the data of a type by its registered name; nil when the
// connection doesn't have it.
func (b Binding) data(name string) []byte {
	switch name {
	case "tls-exporter":
		return b.Exporter
	case "tls-unique":
		return b.Unique
	case "tls-server-end-point":
		return b.ServerEndPoint
	}
	return nil
}

// BindingOf returns the channel binding of a finished handshake. cert is the
// certificate the server sent; nil leaves tls-server-end-point out.
func BindingOf(state *tls.ConnectionState, cert *x509.Certificate) Binding {
	var b Binding
	if state == nil || !state.HandshakeComplete {
		return b
	}
	if state.Version >= tls.VersionTLS13 {
		if data, err := state.ExportKeyingMaterial(exporterLabel, nil, exporterOctets); err == nil {
			b.Exporter = data
		}
	} else {
		// Go leaves it empty where renegotiation or resumption without extended
		// master secret would make it unsafe.
		b.Unique = state.TLSUnique
	}
	if cert != nil {
		b.ServerEndPoint = endPoint(cert)
	}
	return b
}

// endPoint hashes a certificate with the hash of its signature, SHA-256 in place
// of MD5 and SHA-1; nil for signatures without one single hash. RFC 5929 §4.1
func endPoint(cert *x509.Certificate) []byte {
	hash := crypto.SHA256
	switch cert.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		hash = crypto.SHA512
	case x509.PureEd25519, x509.UnknownSignatureAlgorithm:
		return nil
	}
	h := hash.New()
	h.Write(cert.Raw)
	return h.Sum(nil)
}
