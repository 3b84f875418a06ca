//go:build !race

package main

// detector says that the race detector is at work.
const detector = false
