//go:build !linux

package run

// peakBytes is the most memory that the process has had resident; 0: the system does not say.
func peakBytes() float64 { return 0 }
