package trainer

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Elastic are paths of which one holds all others. The side of a path's images stands in its text.
type Elastic interface {
	Paths
	// Sides are the least and the greatest side of images.
	Sides() (least, most int)
	Largest(side int) string
	Smallest(side int) string
	// Sample draws a path.
	Sample(s *philox.Stream, c zoo.Choices, side int) (string, error)
	// Sort says how the channels go in order of their importance (see Stage.Sort), by a function that orders values of
	// the shared variables.
	Sort(s nn.Shared, values [][]float32, trained []int) (func(values [][]float32) ([][]float32, error), error)
}

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

// elasticProgress is what of a supernet's progress lies outside the device.
type elasticProgress struct {
	Stage   int
	Cost    SupernetCost
	Paths   []PathEvaluation
	Teacher string    // checksum of the file in the run's folder; empty: there is none yet
	Sampler []byte    // what the job's sampler has learned
	Chosen  [][]int64 // how many paths of updates had each choice of each decision; nil: none are counted
	// Mixture are the weights after each epoch, and AlphaUpdates how often α were updated, as Adam counts them.
	Mixture      []MixtureWeights
	AlphaUpdates int32
}

// supernetRun is what trainings of supernets in work have in common.
type supernetRun struct {
	course
	SupernetJob
	shared   nn.Shared
	s        *Supernet
	models   []*Model // of the latest step's paths
	perImage map[string]int64
	side     int           // of the images, where all have one
	heldOut  *data.Decoded // images that paths are measured on; nil before they are first asked for
	// recording is how long it took to record paths; on an accelerator the one before runs meanwhile.
	recording time.Duration
}

func newSupernetRun(j SupernetJob, d Deps) (r supernetRun, err error) {
	d.Stop = nil
	r = supernetRun{course: newCourse(Job{Arch: j.Space, Data: j.Data, Source: j.Source, Recipe: j.Recipe.Recipe,
		Seed: j.Seed, OnNaN: j.OnNaN, OnCorrupt: j.OnCorrupt}, d), SupernetJob: j, perImage: map[string]int64{}}
	return r, r.checkFaults()
}

// place puts the shared variables and the optimizer on the device, for images of sides up to one, with the rows that
// networks mix by.
func (r *supernetRun) place(side int, rows []nn.Row, o MixtureOptions) (err error) {
	if r.dev, err = exec.Open(r.Device); err != nil {
		return err
	}
	classes, rec := len(r.course.Data.Classes), r.course.Recipe
	if r.shared, err = r.SupernetJob.Paths.Supernet(classes); err != nil {
		return err
	}
	r.s, err = NewSupernet(r.dev, r.shared, SupernetOptions{Batch: rec.Batch, Image: nn.Shape{H: side, W: side, C: 3},
		Classes: classes, Seed: r.course.Seed, Clip: rec.Clip, Cache: r.Cache, Rows: rows, MixtureOptions: o})
	if err != nil {
		return err
	}
	if r.SupernetJob.Recipe.Untouched == UntouchedStay {
		r.s.leaveUntouched()
	}
	r.o, err = newOptimizer(r.s.Parameters, rec.Optimization)
	return err
}

// shapes are the shared variables, in words.
func (r *supernetRun) shapes() string {
	var b strings.Builder
	for _, v := range r.shared.Variables {
		fmt.Fprint(&b, v.Name, v.Shape)
	}
	return b.String()
}

func (r *supernetRun) close() error {
	if r.s != nil {
		r.s.Close()
	}
	return r.course.close()
}

// elasticRun is the training of a supernet of which one path holds all others.
type elasticRun struct {
	supernetRun
	Elastic Elastic
	sides   []int
	stages  []Stage
	ends    []int // the update at which each stage ends
	teacher *teaching
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

func newElasticRun(j SupernetJob, d Deps) (*elasticRun, error) {
	elastic, ok := j.Paths.(Elastic)
	if !ok || j.Recipe.Sampled() {
		return nil, fmt.Errorf("method %s of %s: nothing says which paths an update trains", j.Recipe.Method, j.Space)
	}
	all, err := newSupernetRun(j, d)
	if err != nil {
		return nil, err
	}
	r := &elasticRun{supernetRun: all, Elastic: elastic}
	r.learner = r
	least, most := elastic.Sides()
	r.sides = j.Recipe.sides(least, most)
	return r, r.schedule()
}

// schedule lists the stages that there are to train.
func (r *elasticRun) schedule() (err error) {
	if r.stages, err = r.SupernetJob.Recipe.stages(); err != nil {
		return err
	}
	switch ofa, first := r.SupernetJob.Recipe.Method == MethodOFA, r.stages[0].Name; {
	case !ofa && r.Teacher != "":
		return fmt.Errorf("a teacher is for method %s: the largest path is %s's", MethodOFA, MethodSandwich)
	case ofa && r.Teacher == "" && first != stageFull:
		return fmt.Errorf("the first stage is %s: want %s, or a teacher that has been trained", first, stageFull)
	case ofa && r.Teacher != "" && first == stageFull:
		r.stages = r.stages[1:]
	}
	if len(r.stages) == 0 {
		return fmt.Errorf("there is no stage behind %s, which the teacher stands for", stageFull)
	}
	return nil
}

func (r *elasticRun) close() error {
	r.teacher.close()
	return r.supernetRun.close()
}

func (r *elasticRun) open(ctx context.Context) (*SupernetResult, error) {
	if err := r.put(ctx); err != nil {
		return nil, err
	}
	if err := r.resume(r.begin); err != nil {
		return nil, err
	}
	result := &SupernetResult{Finished: true}
	if ended, err := r.rest(result); err != nil {
		return nil, err
	} else if ended {
		return result, nil
	}
	if err := r.recall(); err != nil {
		return nil, err
	}
	if r.state.Update == r.updates {
		return nil, nil
	}
	l, err := data.NewLoader(r.course.Data.Train, r.images())
	if err != nil {
		return nil, err
	}
	r.feed = newFeed(r.s.arena, r.s.inputs, l, r.updates*r.course.Recipe.Accumulate-r.state.Step)
	return nil, nil
}

// put puts the shared variables with their start values and the optimizer on the device, and says what all of it is.
func (r *elasticRun) put(ctx context.Context) (err error) {
	most := r.sides[len(r.sides)-1]
	if err := r.place(most, nil, MixtureOptions{}); err != nil {
		return err
	}
	sum, err := r.learn()
	if err != nil {
		return err
	}
	epochs := 0
	for _, s := range r.stages {
		epochs += s.Epochs
	}
	if err := r.count(epochs); err != nil {
		return err
	}
	epochs = 0
	for _, s := range r.stages {
		epochs += s.Epochs
		r.ends = append(r.ends, epochs*r.perEpoch/r.course.Recipe.Accumulate)
	}
	largest, err := r.Elastic.Path(r.Elastic.Largest(most), len(r.course.Data.Classes))
	if err != nil {
		return err
	}
	r.ident, err = r.identify(ctx, fmt.Sprint(largest.Nodes, largest.Bindings)+r.shapes(), r.SupernetJob.Recipe, sum)
	r.ident.Sides = fmt.Sprint(r.sides)
	return err
}

// learn puts the teacher that the job names on the device, and returns the checksum of its file; empty without.
func (r *elasticRun) learn() (sum string, err error) {
	if r.Teacher == "" {
		return "", nil
	}
	values := r.random()
	if sum, err = fileSum(r.Teacher); err == nil {
		err = r.readLargest(r.Teacher, values)
	}
	if err != nil {
		return "", fmt.Errorf("the teacher's weights: %w", err)
	}
	if r.teacher, err = r.newTeaching(values); err != nil {
		return "", fmt.Errorf("the teacher: %w", err)
	}
	return sum, nil
}

// random are start values of the shared variables.
func (r *supernetRun) random() [][]float32 {
	rec := r.SupernetJob.Recipe
	values := r.shared.Initialize(initializers[rec.Init], r.course.Seed)
	if rec.ZeroGamma {
		r.shared.ZeroBranches(values)
	}
	return values
}

// begin sets the shared variables to their start, which is the teacher's weights where there is one, and with them what
// the optimizer remembers.
func (r *elasticRun) begin() error {
	if r.teacher != nil {
		r.s.SetValues(r.teacher.values)
	} else {
		r.s.SetValues(r.random())
	}
	r.o.begin()
	return nil
}

// readLargest replaces the values of the shared variables by those of a file: of a supernet's all, of a network's those
// of the largest path, whose variables are whole.
func (r *elasticRun) readLargest(path string, values [][]float32) error {
	w, err := OpenWeights(path)
	if err != nil {
		return err
	}
	if w.Supernet() {
		all, err := w.FillShared(r.shared)
		if err == nil {
			copy(values, all)
		}
		return err
	}
	largest, err := r.Elastic.Path(r.Elastic.Largest(r.sides[len(r.sides)-1]), len(r.course.Data.Classes))
	if err != nil {
		return err
	}
	own := make([][]float32, len(largest.Bindings))
	if err := w.Fill(largest.Network, own); err != nil {
		return err
	}
	for i, b := range largest.Bindings {
		values[b.Shared] = own[i]
	}
	return nil
}

// images is how training images are brought in: each batch has a side of its own.
func (r *elasticRun) images() data.Config {
	epochs := 0
	for _, s := range r.stages {
		epochs += s.Epochs
	}
	rec, most := r.course.Recipe, r.sides[len(r.sides)-1]
	t := trainTransform(r.course.Data, rec, most)
	if len(r.sides) > 1 && t.Crop == data.CropPadded { // which has the side of the images
		t.Crop, t.Pad, t.AreaMin, t.AreaMax = data.CropRandomResized, 0, cmp.Or(rec.AreaMin, leastArea), 1
	}
	return data.Config{Batch: rec.Batch, Transform: t, Sides: r.sides, Seed: r.course.Seed, Train: true, Epochs: epochs,
		Start: r.start(), Workers: r.Workers, OnCorrupt: r.course.OnCorrupt}
}

// leastArea is the least share of an image that a random resized crop shows unless the recipe says another one.
const leastArea = 0.08

// finish writes what remains of a run.
func (r *elasticRun) finish(context.Context) (*SupernetResult, error) {
	return r.end(r.save, nil)
}

// end is the result, which is written with the weights.
func (r *supernetRun) end(save func(path string) error, mixture *MixtureResult) (*SupernetResult, error) {
	s, d := &r.state, r.course.Data
	params := int64(0)
	for _, v := range r.shared.Variables {
		if v.Role.Trainable() {
			params += int64(v.Len())
		}
	}
	s.Elastic.Cost.Updates = s.Update
	result := &SupernetResult{Space: r.Space, Method: r.SupernetJob.Recipe.Method, Data: r.course.Source,
		Checksum: r.ident.Images, Classes: d.Classes, HeldOut: r.HeldOut, Recipe: r.SupernetJob.Recipe,
		Seed: r.course.Seed, Device: r.dev.Kind(), Params: params, Teacher: r.ident.Teacher, Cost: s.Elastic.Cost,
		Skipped: s.Skipped, TrainLoss: s.TrainLoss, Paths: slices.Clip(s.Elastic.Paths), Fairness: r.fairness(),
		Corrupt: r.tally.Summary(), Mixture: mixture}
	if r.Dir == "" {
		return result, nil
	}
	for _, name := range []string{WeightsTorchName, WeightsName} {
		if err := r.o.averaged(func() error { return save(filepath.Join(r.Dir, name)) }); err != nil {
			return nil, err
		}
	}
	return result, r.write(result, result.Corrupt)
}

// save writes the shared variables, under once-for-all's names. Their running statistics are those that the latest
// paths left, of no one network.
func (r *elasticRun) save(path string) error {
	most := r.sides[len(r.sides)-1]
	largest, err := r.Elastic.Path(r.Elastic.Largest(most), len(r.course.Data.Classes))
	if err != nil {
		return err
	}
	own := zoo.Variants(largest.Network)[0]
	own.Images = ImagesOf(r.course.Data, most)
	own.Images.Rounding = "ceil" // once-for-all's
	metadata := Metadata(r.Space, own.String(), own.Constants, r.course.Data.Classes)
	metadata[SpaceKey] = r.Space
	metadata[HeldOutKey] = strconv.Itoa(r.HeldOut)
	AddImages(metadata, r.course.Recipe.Images)
	return WriteShared(path, r.shared, r.s.Values(), metadata)
}
