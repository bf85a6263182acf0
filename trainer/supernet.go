package trainer

import (
	"context"

	"github.com/ctnas/ctnas/trainer/data"
)

// SupernetJob is the training of a supernet: its result depends on this and on the device's level alone.
type SupernetJob struct {
	Space string // its name
	// Paths are the space's networks: Elastic ones for MethodSandwich and MethodOFA, any that Sampler draws for others.
	Paths Paths
	// Sampler says which paths an update trains; nil for MethodSandwich and MethodOFA, which draw their own.
	Sampler Sampler
	// Data's training images are all that paths see; its validation images judge them after each epoch.
	Data    *data.Dataset
	Source  string // what Data was opened from, without paths that may change
	HeldOut int    // how many of the set's training images are no training images of Data: see data.Dataset.HeldOut
	Recipe  SupernetRecipe
	Seed    uint64
	// OnNaN and OnCorrupt are those of a Job.
	OnNaN     string
	OnCorrupt data.OnCorrupt
	// Teacher is a file of the largest path's weights, with which MethodOFA begins behind its stage `full`; empty
	// without.
	Teacher string
	// Cache is how many bytes recorded paths may hold: SupernetOptions. Results do not depend on it.
	Cache int64
}

// TrainSupernet trains a supernet. In a folder with a checkpoint it goes on from there and ends in the same bits as if
// it had never stopped. Deps.Stop is not asked.
func TrainSupernet(ctx context.Context, j SupernetJob, d Deps) (*SupernetResult, error) {
	if err := j.Recipe.Check(); err != nil {
		return nil, err
	}
	if j.Recipe.Mixed() {
		r, err := newMixedRun(j, d)
		if err != nil {
			return nil, err
		}
		return conduct(ctx, r)
	}
	if j.Sampler != nil {
		r, err := newSampledRun(j, d)
		if err != nil {
			return nil, err
		}
		return conduct(ctx, r)
	}
	r, err := newElasticRun(j, d)
	if err != nil {
		return nil, err
	}
	return conduct(ctx, r)
}

// PathEvaluation is how good a path was after an epoch, with statistics of its own.
type PathEvaluation struct {
	Role string `json:"role"` // RoleLargest, RoleSmallest, or a random one's number
	Path string `json:"path"`
	Evaluation
}

// Roles of the paths that are judged after each epoch; random ones are "random 1" and so on, the same ones in all
// epochs of a stage.
const (
	RoleLargest  = "largest"
	RoleSmallest = "smallest"
	roleRandom   = "random "
)

// SupernetCost is what a supernet's training took.
type SupernetCost struct {
	Updates int    `json:"updates"`
	Images  int64  `json:"images"`     // those of the batches, however many paths saw each
	Steps   int64  `json:"path_steps"` // forward and backward passes of a batch
	MAdds   uint64 `json:"madds"`      // multiply-adds of the paths forward, times three for forward and backward
	Teacher int64  `json:"teacher_steps"`
}

// SupernetResult is the result.json of a supernet: it holds nothing that differs between two identical runs.
type SupernetResult struct {
	Space    string         `json:"space"`
	Method   string         `json:"method"`
	Data     string         `json:"data"`
	Checksum string         `json:"data_checksum"`
	Classes  []string       `json:"classes"` // in the order of the logits
	HeldOut  int            `json:"held_out_images"`
	Recipe   SupernetRecipe `json:"recipe"`
	Seed     uint64         `json:"seed"`
	Device   string         `json:"device"`
	Params   int64          `json:"params"`            // that paths share, kernel matrices included
	Teacher  string         `json:"teacher,omitempty"` // checksum of the file that it began with
	Cost     SupernetCost   `json:"cost"`
	Skipped  int            `json:"updates_skipped"` // their loss or gradient was not finite
	// TrainLoss is the mean over the paths and updates of each epoch; null where all of its updates were left out.
	TrainLoss []Real           `json:"train_loss"`
	Paths     []PathEvaluation `json:"paths"` // after each epoch; empty without validation images
	// Fairness is how often each choice was trained, by decision; null where the method trains all choices in every
	// update, or the space does not say what a path chooses.
	Fairness []Fairness `json:"fairness"`
	// Mixture is how the choices' weights learned; absent where paths are trained one by one.
	Mixture *MixtureResult `json:"mixture,omitempty"`
	// Corrupt are the images that could not be read and were left out; absent without any.
	Corrupt *data.CorruptImages `json:"corrupt_images,omitempty"`
	// Finished tells a result that was read from a folder whose training had ended before.
	Finished bool `json:"-"`
}

// Fairness says how often the choices of a decision were trained. Strict fairness (Chu et al. 2021, FairNAS) trains all
// of them equally often.
type Fairness struct {
	Decision string   `json:"decision"`
	Choices  []string `json:"choices"`
	// Paths is how many paths of updates had each choice; those of updates that were left out are among them.
	Paths []int64 `json:"paths"`
	Least int64   `json:"least"` // of these, and the most
	Most  int64   `json:"most"`
}

// Names of files in the folder of a supernet's training, beside those of any training.
const (
	WeightsTorchName = "weights.pth"         // the same as WeightsName, for PyTorch
	TeacherName      = "teacher.safetensors" // the largest path that later stages learn from, with all it shares
)
