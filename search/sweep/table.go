package sweep

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"
)

// Table writes trainings as a CSV table that package table reads: a row an architecture in the plan's order, for each number of epochs and each seed its
// validation and test accuracy; the seeds are runs 1, 2, ... Parameters and multiply-adds are those of the networks that were trained. It
// holds nothing that differs between two equal sweeps; see Seconds for the times.
func (p Plan) Table(list []Training) ([]byte, error) {
	columns := []string{"arch", "hash", "trained_params", "trained_madds"}
	for _, epochs := range p.Epochs {
		for run := range p.Seeds {
			for _, split := range []string{"validation", "test"} {
				columns = append(columns, fmt.Sprintf("%s_accuracy_run%d_epochs%d", split, run+1, epochs))
			}
		}
	}
	return p.csv(list, columns, func(t []Training) []string {
		fields := []string{strconv.FormatInt(t[0].Params, 10), strconv.FormatInt(t[0].MAdds, 10)}
		for _, one := range t {
			fields = append(fields, number(one.Validation), number(one.Test))
		}
		return fields
	})
}

// Seconds writes how long the trainings took, in the rows of Table.
func (p Plan) Seconds(list []Training) ([]byte, error) {
	columns := []string{"arch", "hash"}
	for _, epochs := range p.Epochs {
		for run := range p.Seeds {
			columns = append(columns, fmt.Sprintf("seconds_run%d_epochs%d", run+1, epochs))
		}
	}
	return p.csv(list, columns, func(t []Training) []string {
		fields := make([]string, len(t))
		for i, one := range t {
			fields[i] = strconv.FormatFloat(one.Seconds, 'f', 2, 64)
		}
		return fields
	})
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// csv writes a row an architecture: its text, its hash, and what fields makes of its trainings, by epochs and then by seed.
func (p Plan) csv(list []Training, columns []string, fields func([]Training) []string) ([]byte, error) {
	at := make(map[key]Training, len(list))
	for _, t := range list {
		at[t.key()] = t
	}
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	if err := w.Write(columns); err != nil {
		return nil, err
	}
	for _, a := range p.Archs {
		var of []Training
		for _, epochs := range p.Epochs {
			for _, seed := range p.Seeds {
				t, ok := at[key{a.String(), epochs, seed}]
				if !ok {
					return nil, fmt.Errorf("no training of %v with %d epochs and seed %d", a, epochs, seed)
				}
				of = append(of, t)
			}
		}
		if err := w.Write(append([]string{a.String(), a.Hash()}, fields(of)...)); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return out.Bytes(), w.Error()
}
