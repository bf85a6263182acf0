package trainer

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

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

// elasticRun is the training of a supernet of which one path holds all others.
type elasticRun struct {
	supernetRun
	Elastic Elastic
	sides   []int
	stages  []Stage
	ends    []int // the update at which each stage ends
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

func (r *elasticRun) open(ctx context.Context) (*SupernetResult, error) {
	if err := r.put(ctx); err != nil {
		return nil, err
	}
	if ended, err := r.goOn(r.begin); ended != nil || err != nil {
		return ended, err
	}
	if err := r.recall(); err != nil {
		return nil, err
	}
	return nil, r.fed(r.sidedImages())
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
	if err = r.teach(values); err != nil {
		return "", fmt.Errorf("the teacher: %w", err)
	}
	return sum, nil
}

// begin sets the shared variables to their start, which is the teacher's weights where there is one, and with them what
// the optimizer remembers.
func (r *elasticRun) begin() error {
	if teacher := r.nets[0].teacher; teacher != nil {
		r.s.SetValues(teacher.values)
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

// sidedImages is how training images are brought in: each batch has a side of its own.
func (r *elasticRun) sidedImages() data.Config {
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
		Start: r.start(), Shards: rec.parts(), Workers: r.Workers, OnCorrupt: r.course.OnCorrupt}
}

// leastArea is the least share of an image that a random resized crop shows unless the recipe says another one.
const leastArea = 0.08

// finish writes what remains of a run.
func (r *elasticRun) finish(context.Context) (*SupernetResult, error) {
	return r.end(r.save, nil)
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
