package trained

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// WriteTable writes what labelled architectures reached as a CSV table of validation and test accuracies, which package
// table reads. What diverged has the accuracy of guessing, what was stopped cannot be written. The source must have
// been unsealed.
func (s *Source) WriteTable(w io.Writer, archs []space.Arch) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"arch", fmt.Sprintf("validation_accuracy_epochs%d", s.Recipe.Epochs),
		fmt.Sprintf("test_accuracy_epochs%d", s.Recipe.Epochs)}}
	number := func(v float64) string { return strconv.FormatFloat(math.Min(1, v), 'g', -1, 64) }
	for _, a := range archs {
		runs, n := s.made[a], s.Note(a)
		if runs == nil || n.Stopped != nil {
			return fmt.Errorf("%v: it was not trained to the end (%v)", a, n)
		}
		test, _, err := s.Judge(a)
		if errors.Is(err, ledger.ErrNoLabel) { // diverged, or there are no test images
			test, err = s.chance(), nil
			if !n.Diverged {
				err = fmt.Errorf("%s has no test images to judge by", s.Data)
			}
		}
		if err != nil {
			return err
		}
		validation := 0.0
		for _, o := range runs {
			validation += s.value(rule{}, 0, o) / float64(len(runs))
		}
		rows = append(rows, []string{a.String(), number(validation), number(test)})
	}
	return out.WriteAll(rows)
}
