package supernet

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/ctnas/ctnas/trainer/data"
)

// sets are the images that judge and those that batch norms get their statistics from.
func (e *Evaluator) sets() (judging, calibration *data.Set, err error) {
	train := e.data.Train.Len()
	if e.Calibrate > train {
		return nil, nil, fmt.Errorf("calibrate=%d: %s has %d training images", e.Calibrate, e.Data, train)
	}
	if !e.batched() {
		if calibration, err = e.data.Train.Drawn(e.Calibrate, data.CalibrationSeed+e.Seed); err != nil {
			return nil, nil, err
		}
	}
	switch e.Split {
	case SplitNone:
		if e.batched() {
			return nil, nil, errors.New("statistics of each batch, and no images that judge")
		}
		return nil, calibration, nil
	case SplitVal:
		judging, err = e.validation()
		return judging, calibration, err
	}
	unseen := e.Weights.HeldOut
	n := cmp.Or(e.Images, unseen, e.data.HeldOutCount())
	switch {
	case n > train:
		return nil, nil, fmt.Errorf("images=%d: %s has %d training images; images=N says how many of them the "+
			"supernet has not seen", n, e.Data, train)
	case unseen > 0 && n > unseen:
		return nil, nil, fmt.Errorf("images=%d: of the training images the supernet has not seen %d, and no others "+
			"can judge; split=val takes the validation images", n, unseen)
	}
	judging, err = e.data.Train.Drawn(n, data.HeldOutSeed)
	return judging, calibration, err
}

// validation are the published validation images: those of the set, or of ImageNet its images for tests.
func (e *Evaluator) validation() (*data.Set, error) {
	set := e.data.Validation
	if set.Len() == 0 {
		set = e.data.Test
	}
	switch {
	case set.Len() == 0:
		return nil, fmt.Errorf("split=val: %s has no validation images", e.Data)
	case e.Images > set.Len():
		return nil, fmt.Errorf("images=%d: %s has %d validation images", e.Images, e.Data, set.Len())
	case e.Images > 0:
		set = set.Subset(upTo(e.Images))
	}
	return set, nil
}

// upTo are the first n whole numbers.
func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
