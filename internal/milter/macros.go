package milter

import (
	"slices"
	"strconv"
	"strings"
)

// macroStage is a stage at which macros are told; the numbers are the protocol's.
type macroStage uint32

const (
	macrosConnect macroStage = iota
	macrosHello
	macrosMail
	macrosRcpt
	macrosData
	macrosEnd
	macrosEOH
	numMacroStages
)

// usual are the macros told at each stage to milters that ask for none.
func usual(at macroStage) []string {
	switch at {
	case macrosConnect:
		return []string{"j", "_", "{daemon_name}", "{daemon_addr}", "{daemon_port}", "v", "{client_addr}", "{client_name}", "{client_port}", "{client_ptr}", "{client_resolve}"}
	case macrosHello:
		return []string{"{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"}
	case macrosMail:
		return []string{"i", "{auth_type}", "{auth_authen}", "{auth_author}", "{auth_ssf}", "{client_addr}", "{client_name}", "{mail_addr}", "{mail_host}", "{mail_mailer}"}
	case macrosRcpt:
		return []string{"i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"}
	case macrosData, macrosEOH, macrosEnd:
		return []string{"i", "{msg_id}"}
	case numMacroStages:
	}
	return nil
}

// macrosOf makes the macros that are the same for all of a message.
func (c *Client) macrosOf(m Message) map[string]string {
	o := m.Origin
	all := map[string]string{"j": c.cfg.Hostname, "v": c.cfg.Software, "{daemon_name}": c.cfg.Daemon, "i": m.QueueID, "{mail_mailer}": "smtp"}
	if o.Peer.IsValid() {
		ip := o.Peer.Addr().Unmap()
		all["{client_addr}"], all["{client_port}"] = ip.String(), strconv.Itoa(int(o.Peer.Port()))
		all["{client_name}"], all["{client_ptr}"], all["{client_resolve}"] = "unknown", "unknown", "FAIL"
		all["_"] = "[" + ip.String() + "]"
		if o.PeerName != "" {
			all["{client_name}"], all["{client_ptr}"], all["{client_resolve}"] = o.PeerName, o.PeerName, "OK"
			all["_"] = o.PeerName + " " + all["_"]
		}
	}
	if version, cipher, ok := strings.Cut(o.TLS, " "); ok {
		all["{tls_version}"], all["{cipher}"] = strings.Replace(version, "TLS1", "TLSv1", 1), cipher
		switch {
		case strings.Contains(cipher, "AES_256"), strings.Contains(cipher, "CHACHA20"):
			all["{cipher_bits}"] = "256"
		case strings.Contains(cipher, "AES_128"):
			all["{cipher_bits}"] = "128"
		}
	}
	if o.Login != "" {
		all["{auth_authen}"], all["{auth_type}"] = o.Login, m.Mechanism
		if m.Mechanism == "" {
			all["{auth_type}"] = "UNKNOWN"
		}
	}
	from := m.Envelope.ReversePath.Address()
	all["{mail_addr}"] = strings.Trim(m.Envelope.ReversePath.String(), "<>")
	if !from.IsZero() {
		all["{mail_host}"] = from.Domain().String()
	}
	for name, value := range m.Macros {
		all[name] = value
	}
	return all
}

// appendMacros appends a macro command's data for a stage: its code, names and values. Macros
// without a value are left out.
func (k *conn) appendMacros(b []byte, at macroStage, cmd byte, all map[string]string) []byte {
	b = append(b, cmd)
	names := usual(at)
	if asked, ok := k.macros[at]; ok {
		names = names[:0]
		for name := range asked {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	for _, name := range names {
		value := all[name]
		if value == "" && len(name) > 2 && name[0] != '{' {
			value = all["{"+name+"}"]
		}
		if value != "" {
			b = appendString(appendString(b, name), value)
		}
	}
	return b
}

// connectData is the argument of the connect command: host name, family, port, address.
func connectData(m Message) []byte {
	peer := m.Origin.Peer
	if !peer.IsValid() {
		return append(appendString(nil, "localhost"), 'U')
	}
	ip := peer.Addr().Unmap().WithZone("")
	name, family := m.Origin.PeerName, byte('4')
	if name == "" {
		name = "[" + ip.String() + "]"
	}
	if ip.Is6() {
		family = '6'
	}
	b := append(appendString(nil, name), family, byte(peer.Port()>>8), byte(peer.Port()))
	return appendString(b, ip.String())
}
