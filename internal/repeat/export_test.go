package repeat

// Sweep is one round of Run.
var Sweep = (*Register).sweep
