package main

import (
	"encoding/binary"
	"net"
	"strings"
)

// mailDomains is a zone in which every name has itself as MX and is 127.0.0.1; no other
// name exists.
const mailDomains = "far.test"

// startDNS answers questions at once, on a port of loopback.
func (b *bench) startDNS() (addr string, err error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	b.onStop(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if r := dnsAnswer(buf[:n]); r != nil {
				_, _ = conn.WriteTo(r, peer)
			}
		}
	}()
	return conn.LocalAddr().String(), nil
}

// dnsAnswer answers one question (RFC 1035 §4); nil for what is none.
func dnsAnswer(q []byte) []byte {
	if len(q) < 17 {
		return nil
	}
	i, name := 12, ""
	for i < len(q) && q[i] != 0 {
		n := int(q[i])
		if n > 63 || i+1+n > len(q) {
			return nil
		}
		name += strings.ToLower(string(q[i+1:i+1+n])) + "."
		i += 1 + n
	}
	if i+5 > len(q) {
		return nil
	}
	r := append([]byte{}, q[:i+5]...)
	r[2], r[3] = 0x81|q[2]&0x79, 0x80
	clear(r[6:12])
	labels := strings.Count(name, ".")
	if !strings.HasSuffix(name, "."+mailDomains+".") || labels != strings.Count(mailDomains, ".")+2 {
		r[3] |= 3 // NXDOMAIN
		return r
	}
	head := []byte{0xc0, 12, 0, 0, 0, 1, 0, 0, 0x0e, 0x10} // the name asked for, class IN, an hour
	kind := binary.BigEndian.Uint16(q[i+1:])
	head[3] = byte(kind)
	switch kind {
	case 1: // A
		r[7] = 1
		r = append(append(r, head...), 0, 4, 127, 0, 0, 1)
	case 15: // MX
		r[7] = 1
		r = append(append(r, head...), 0, 4, 0, 10, 0xc0, 12)
	}
	return r
}
