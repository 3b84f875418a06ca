// Package e2e holds the tests of the whole binary: real clients, crashes, two
// nodes on one database, disks that are full. They build cmd/poczta once, run it
// on loopback ports of their own and stop it by pid.
package e2e
