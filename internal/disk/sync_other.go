//go:build !linux

package disk

import "os"

// syncData syncs f; os.File.Sync knows what each system needs for it.
func syncData(f *os.File) error { return f.Sync() }
