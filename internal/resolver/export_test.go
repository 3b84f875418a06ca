package resolver

// Read is what a Stub makes of a reply.
var Read = read
