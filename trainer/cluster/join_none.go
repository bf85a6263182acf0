//go:build nofarm

package cluster

import (
	"context"
	"errors"
)

// Join is of programs with farms alone.
func Join(context.Context, Config) (*Nodes, error) {
	return nil, errors.New("this program was built without farms (-tags nofarm), by whose means nodes find each other")
}
