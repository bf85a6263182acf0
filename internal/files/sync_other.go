//go:build !unix

package files

// SyncDir does nothing where folders cannot be flushed.
func SyncDir(string) error { return nil }
