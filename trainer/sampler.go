package trainer

import (
	"context"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Paths is a space of networks that are paths of one supernet. A path is named by a text.
type Paths interface {
	// Supernet are the variables that the paths share.
	Supernet(classes int) (nn.Shared, error)
	Path(path string, classes int) (nn.Path, error)
}

// Deciding are paths that take some of the choices of each decision that they make.
type Deciding interface {
	Paths
	// Decisions are the supernet's, with their choices; none where nobody knows what paths choose.
	Decisions() []nn.Row
	// Chosen are the choices that a path takes: of a decision that it does not make none.
	Chosen(path string) ([]nn.Choice, error)
}

// Sampler says which paths an update trains.
type Sampler interface {
	// Paths are those of an update, whose gradients are summed. They are a function of the update's number, the seed
	// that the sampler was made with, and what it has learned.
	Paths(update int) ([]string, error)
	// Learn is called after each epoch, counted from 1, and may measure paths.
	Learn(ctx context.Context, epoch int, measure Measure) error
	// State is what it has learned, for checkpoints; nil where it learns nothing.
	State() ([]byte, error)
	Restore(state []byte) error
}

// Measure returns the accuracies (0..1) of paths, each the mean over batches of held-out images, from one to before
// another, with each batch's own statistics. Batches are counted from 0 and begin again behind the last one. Several
// devices measure several paths at the same time.
type Measure func(ctx context.Context, paths []string, from, to int) ([]float64, error)
