package ledger

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/search/space"
)

// None is a source without labels: of a search whose method asks for none, where nobody judges its pick.
type None struct{}

// Has is false.
func (None) Has(space.Arch) bool { return false }

// Label fails.
func (None) Label(_ context.Context, archs []space.Arch) ([]float64, error) {
	return nil, fmt.Errorf("%d labels asked for where there are none: %w", len(archs), ErrNoLabel)
}

// Facts are none.
func (None) Facts() Facts { return Facts{} }

// Describe says that there are none.
func (None) Describe() string { return "no labels, and nobody judges" }
