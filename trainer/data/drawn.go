package data

import "fmt"

// Seeds of RandPerm in once-for-all (mit-han-lab/once-for-all, imagenet_classification/data_providers/base_provider.py)
// and how many images it draws: those that its published supernets were not trained on, and those that batch norms of
// a sub-network get their statistics from.
const (
	HeldOutSeed       = 2147483647
	CalibrationSeed   = 937162211
	HeldOutImages     = 10_000
	CalibrationImages = 2_000
)

// Drawn are n of the images, in the order in which RandPerm draws them by the seed: fewer are the first of more.
func (s *Set) Drawn(n int, seed uint64) (*Set, error) {
	if n < 0 || n > s.Len() {
		return nil, fmt.Errorf("%d images are wanted, there are %d", n, s.Len())
	}
	order := RandPerm(s.Len(), seed)[:n]
	index := make([]int32, n)
	for i, p := range order {
		index[i] = int32(s.at(int(p)))
	}
	return &Set{s.store, index, s.labels}, nil
}

// HeldOut is the same set with n of its training images as Validation, in the order of Drawn, and the others as Train,
// in theirs. They are the images that once-for-all draws: of ImageNet in folders, the published supernets were trained
// without the first 10,000. Where validation images were split off before, they stay out of Train too. It shares the
// files: close one of the two only.
func (d *Dataset) HeldOut(n int) (*Dataset, error) {
	if n < 1 || n >= d.all.Len() {
		return nil, fmt.Errorf("%d images are to be held out: %s has %d training images", n, d.Name, d.all.Len())
	}
	held, err := d.all.Drawn(n, HeldOutSeed)
	if err != nil {
		return nil, err
	}
	out := make(map[int32]bool, n)
	for _, k := range held.index {
		out[k] = true
	}
	rest := make([]int, 0, d.Train.Len())
	for i := range d.Train.Len() {
		if !out[int32(d.Train.at(i))] {
			rest = append(rest, i)
		}
	}
	if len(rest) == 0 {
		return nil, fmt.Errorf("%d images are to be held out: %s has no other training images", n, d.Name)
	}
	split := *d
	split.Train, split.Validation = d.Train.subset(rest), held
	return &split, nil
}

// Calibration are n training images that statistics of batch norms are computed on, in a random order: those that
// once-for-all draws, of all training images. They are shown without their labels, so some may be held out as well: of
// ImageNet's 2,000 it is 22.
func (d *Dataset) Calibration(n int) (*Set, error) {
	set, err := d.all.Drawn(n, CalibrationSeed)
	if err != nil {
		return nil, fmt.Errorf("calibration images of %s: %w", d.Name, err)
	}
	return set, nil
}

// HeldOutCount is how many images are held out unless somebody says otherwise: once-for-all's 10,000, or of smaller
// sets a tenth.
func (d *Dataset) HeldOutCount() int { return min(HeldOutImages, max(1, d.all.Len()/10)) }

// CalibrationCount is how many images statistics are computed on unless somebody says otherwise: once-for-all's 2,000,
// or all there are.
func (d *Dataset) CalibrationCount() int { return min(CalibrationImages, d.all.Len()) }
