// Package lab is a laboratory of several mail hosts: this server, Postfix, Exim,
// BIND and Unbound, each in a network namespace of its own, exchange mail on port 25.
// Its tests need root and Debian's packages; docs/laboratory.md tells how to run
// them by hand and how to look inside. Nothing in it reaches a network outside.
package lab
