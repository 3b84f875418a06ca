package mua

// ProgressText and Bar are what progress says.
var (
	ProgressText = progressText
	Bar          = bar
	Size         = size
	Printable    = printable
)
