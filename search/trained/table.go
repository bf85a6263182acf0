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
		validation, err := s.Whole(a)
		if err != nil {
			return err
		}
		test, _, err := s.Judge(a)
		if errors.Is(err, ledger.ErrNoLabel) { // diverged, or there are no test images
			test, err = s.Guessing(), nil
			if n := s.Note(a); !n.Diverged && n.Failed == nil {
				err = fmt.Errorf("%s has no test images to judge by", s.Data)
			}
		}
		if err != nil {
			return err
		}
		rows = append(rows, []string{a.String(), number(validation), number(test)})
	}
	return out.WriteAll(rows)
}
