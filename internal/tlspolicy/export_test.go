package tlspolicy

// Expire is what Run does each hour.
var Expire = (*Store).expire
