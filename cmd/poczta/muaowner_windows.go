package main

// foreign reports whether a folder belongs to another user; here its rights alone say who comes in.
func foreign(string) bool { return false }
