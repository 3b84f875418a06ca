package relay

// ErrLease is errLease.
var ErrLease = errLease
