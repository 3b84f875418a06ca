//go:build !unix

package smtpclient

import "net"

// watch returns what tells whether octets, or the end, have arrived on conn that were not
// read. Nil when conn can't tell.
func watch(conn net.Conn) arrivals {
	c, _ := conn.(arrivals)
	return c
}
