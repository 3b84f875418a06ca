package content

// ParseDate is parseDate.
var ParseDate = parseDate
