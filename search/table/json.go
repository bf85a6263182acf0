package table

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/search/space"
)

// jsonRecord is an item of the nas_bench.json that the CTNAS authors' code reads (chenyaofo/CTNAS,
// ctnas/core/dataset/architecture/nasbench.py): the numbers are means of three runs of 108 epochs, hash_ is the module
// hash.
type jsonRecord struct {
	Matrix             [][]whole `json:"matrix"`
	Ops                []string  `json:"ops"`
	Params             *whole    `json:"n_params"`
	TrainingTime       *float64  `json:"training_time"`
	TrainAccuracy      *float64  `json:"train_accuracy"`
	ValidationAccuracy *float64  `json:"validation_accuracy"`
	TestAccuracy       *float64  `json:"test_accuracy"`
	Hash               *string   `json:"hash_"`
}

var jsonMetrics = []Metric{
	{Accuracy, "train", 0, 108}, {Accuracy, "validation", 0, 108}, {Accuracy, "test", 0, 108},
	{TrainingTime, "", 0, 108},
}

// whole is a whole number as programs write it: 1, 1.0, true.
type whole int64

// UnmarshalJSON refuses numbers with a fraction.
func (w *whole) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "true":
		*w = 1
		return nil
	case "false":
		*w = 0
		return nil
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil || v != math.Trunc(v) || math.Abs(v) > 1<<53 {
		return fmt.Errorf("%.40s is not a whole number", text)
	}
	*w = whole(v)
	return nil
}

type jsonItem struct {
	record jsonRecord
	at     place
}

func readJSON(in *input) (*builder, error) {
	b := newBuilder(in, jsonMetrics)
	err := inOrder(in.ctx, in.workers(), func(emit func([]jsonItem) error) error { return in.jsonItems(emit) },
		func(items []jsonItem) ([]row, error) {
			rows := make([]row, len(items))
			for i, item := range items {
				r, err := item.record.row()
				if err != nil {
					return nil, in.fail(item.at.record, item.at.offset, 0, err)
				}
				r.at = item.at
				rows[i] = r
			}
			return rows, nil
		},
		func(rows []row) error {
			for _, r := range rows {
				if err := b.addRow(in, r); err != nil {
					return err
				}
			}
			return nil
		})
	return b, err
}

// jsonItems takes the list apart.
func (in *input) jsonItems(emit func([]jsonItem) error) error {
	limited := &rationed{r: in.r}
	decoder := json.NewDecoder(limited)
	limited.left = maxRecordBytes
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return in.fail(-1, 0, 0, fmt.Errorf("not a JSON list: %w", jsonError(err)))
	}
	var items []jsonItem
	flush := func() error {
		if len(items) == 0 {
			return nil
		}
		batch := items
		items = nil
		return emit(batch)
	}
	// A fault must not overtake the records before it, which may be at fault themselves.
	fail := func(record, offset int64, err error) error {
		if err := flush(); err != nil {
			return err
		}
		return in.fail(record, offset, 0, err)
	}
	number := int64(0)
	for ; ; number++ {
		limited.left = maxRecordBytes
		if !decoder.More() {
			break
		}
		item := jsonItem{at: place{record: number, offset: in.base + decoder.InputOffset()}}
		if err := decoder.Decode(&item.record); err != nil {
			return fail(number, item.at.offset, jsonError(err))
		}
		if items = append(items, item); len(items) == batchSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	limited.left = maxRecordBytes
	offset := in.base + decoder.InputOffset()
	if _, err := decoder.Token(); err != nil {
		return fail(number, offset, jsonError(err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fail(number, in.base+decoder.InputOffset(), errors.New("more follows after the list's end"))
	}
	return flush()
}

func jsonError(err error) error {
	switch {
	case err == nil:
		return errors.New("it is something else")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the file is truncated: %w", io.ErrUnexpectedEOF)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && strings.HasPrefix(syntax.Error(), "invalid character 'N'") {
		return fmt.Errorf("%w: NaN is not JSON, write null for a number that is not known", err)
	}
	return unpackError(err)
}

// rationed fails when more than left bytes are read, so that a record that never ends does not fill the memory.
type rationed struct {
	r    io.Reader
	left int
}

func (r *rationed) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, fmt.Errorf("a record of more than %d bytes", maxRecordBytes)
	}
	n, err := r.r.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

// row checks a record.
func (r *jsonRecord) row() (row, error) {
	matrix := make([][]int, len(r.Matrix))
	for i, row := range r.Matrix {
		for _, edge := range row {
			matrix[i] = append(matrix[i], int(edge))
		}
	}
	cell, err := space.NewCell(matrix, r.Ops)
	if err != nil {
		return row{}, err
	}
	c := noClaims
	if r.Params != nil {
		if c.params = int64(*r.Params); c.params < 0 {
			return row{}, fmt.Errorf("%d parameters", c.params)
		}
	}
	if r.Hash != nil {
		if c.hash = *r.Hash; c.hash == "" {
			return row{}, errors.New("an empty hash_")
		}
	}
	out := row{arch: cell, values: make([]float64, len(jsonMetrics))}
	if out.hash, err = c.verify(cell); err != nil {
		return row{}, err
	}
	for i, v := range []*float64{r.TrainAccuracy, r.ValidationAccuracy, r.TestAccuracy, r.TrainingTime} {
		if v == nil {
			out.values[i] = math.NaN()
			continue
		}
		if err := checkValue(jsonMetrics[i].Name, *v); err != nil {
			return row{}, fmt.Errorf("%s: %w", strings.TrimSpace(jsonMetrics[i].Split+" "+jsonMetrics[i].Name), err)
		}
		out.values[i] = *v
	}
	return out, nil
}
