//go:build nofarm

package bench

func farms() []Case { return nil }
