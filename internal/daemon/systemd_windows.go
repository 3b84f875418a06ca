package daemon

// No service manager of Windows hands over sockets or wants to be told the clock.
func closeOnExec(int)          {}
func monotonic() (int64, bool) { return 0, false }
