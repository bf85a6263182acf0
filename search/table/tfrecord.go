package table

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/tfrecord"
	"github.com/ctnas/ctnas/search/space"
	"google.golang.org/protobuf/encoding/protowire"
)

// The official files hold one record a training run (google-research/nasbench, api.py and model_metrics.proto): a JSON
// list
//
//	[module_hash, epochs, adjacency matrix row by row as zeros and ones, operations joined by commas,
//	 base64 of a ModelMetrics]
//
// Runs of one architecture and one number of epochs are numbered as they come; nasbench_only108 has three of 108 epochs
// an architecture, nasbench_full also three of 4, of 12 and of 36.
const (
	tfRuns   = 3
	maxEpoch = 100_000
	budgets  = 8 // different numbers of epochs in one file
)

// tfMetrics are the columns of one run, from the last entry of its evaluation_data.
var tfMetrics = [...]Metric{
	{Name: Accuracy, Split: "train"}, {Name: Accuracy, Split: "validation"}, {Name: Accuracy, Split: "test"},
	{Name: TrainingTime},
}

// training is one record.
type training struct {
	at     place
	hash   moduleHash
	epochs int
	cell   space.Cell
	params int64
	values [len(tfMetrics)]float64
}

// chunk is a batch of raw records, one behind the other.
type chunk struct {
	data   []byte
	ends   []int
	places []place
}

func readTFRecord(in *input) (*builder, error) {
	b := newBuilder(in, nil)
	runs := map[int][]uint8{} // by epochs: how many each row has
	first := map[int]int{}    // by epochs: its first column
	var params []int64
	add := func(r training) error {
		row, known := b.find(r.cell)
		if !known {
			b.add(r.hash, r.at)
			params = append(params, r.params)
		}
		switch {
		case b.hashes[row] != r.hash:
			return fmt.Errorf("module hash %x, record %d gives the same graph the hash %x", r.hash,
				b.places[row].record, b.hashes[row])
		case params[row] != r.params:
			return fmt.Errorf("%d parameters, record %d gives the same graph %d", r.params, b.places[row].record,
				params[row])
		}
		base, known := first[r.epochs]
		if !known {
			if len(first) == budgets {
				return fmt.Errorf("more than %d different numbers of epochs", budgets)
			}
			base = len(b.metrics)
			first[r.epochs] = base
			for run := range tfRuns {
				for _, m := range tfMetrics {
					m.Run, m.Epochs = run+1, r.epochs
					b.metrics = append(b.metrics, m)
					b.values = append(b.values, nil)
				}
			}
		}
		count := runs[r.epochs]
		if row >= len(count) {
			count = slices.Grow(count, b.len()-len(count))[:b.len()]
			runs[r.epochs] = count
		}
		run := int(count[row])
		if run == tfRuns {
			return fmt.Errorf("a fourth run of %d epochs of module hash %x", r.epochs, r.hash)
		}
		count[row]++
		for i, v := range r.values {
			b.set(base+run*len(tfMetrics)+i, row, v)
		}
		return nil
	}
	err := inOrder(in.ctx, in.workers(), func(emit func(chunk) error) error { return in.chunks(emit) },
		func(c chunk) ([]training, error) {
			list := make([]training, len(c.ends))
			begin := 0
			for i, end := range c.ends {
				var err error
				if list[i], err = parseTraining(c.data[begin:end]); err != nil {
					return nil, in.fail(c.places[i].record, c.places[i].offset, 0, err)
				}
				list[i].at = c.places[i]
				begin = end
			}
			return list, nil
		},
		func(list []training) error {
			for _, r := range list {
				if err := add(r); err != nil {
					return in.fail(r.at.record, r.at.offset, 0, err)
				}
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	return b, eachRow(in.ctx, in.workers(), b.len(), func(i int) error {
		_, err := claims{hash: fmt.Sprintf("%x", b.hashes[i]), params: params[i],
			madds: -1}.verify(b.coder.FromCode(b.index.at(b.codes, i)))
		if err != nil {
			return in.fail(b.places[i].record, b.places[i].offset, 0, err)
		}
		return nil
	})
}

// chunks reads the framing.
func (in *input) chunks(emit func(chunk) error) error {
	r := tfrecord.NewReader(in.r, maxRecordBytes)
	for {
		var c chunk
		var err error
		for len(c.ends) < batchSize && len(c.data) < maxRecordBytes {
			record, offset := r.Record()
			if c.data, err = r.Next(c.data); err != nil {
				break
			}
			c.ends = append(c.ends, len(c.data))
			c.places = append(c.places, place{record: record, offset: offset})
		}
		if len(c.ends) > 0 {
			if err := emit(c); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			var damage *tfrecord.Error
			if errors.As(err, &damage) {
				return in.fail(damage.Record, damage.Offset, 0, unpackError(damage.Err))
			}
			return in.fail(-1, 0, 0, err)
		}
	}
}

// parseTraining reads one record's content.
func parseTraining(data []byte) (r training, err error) {
	var hash, adjacency, operations, metrics *string
	var epochs *int
	list := []any{&hash, &epochs, &adjacency, &operations, &metrics}
	if err := json.Unmarshal(data, &list); err != nil {
		return r, fmt.Errorf("not a list [module hash, epochs, adjacency, operations, metrics]: %w", err)
	}
	if len(list) != 5 || hash == nil || epochs == nil || adjacency == nil || operations == nil || metrics == nil {
		return r, fmt.Errorf("a list of %d items, want [module hash, epochs, adjacency, operations, metrics]",
			len(list))
	}
	if r.hash, err = parseHash(*hash); err != nil {
		return r, err
	}
	if r.epochs = *epochs; r.epochs < 1 || r.epochs > maxEpoch {
		return r, fmt.Errorf("%d epochs, want 1..%d", r.epochs, maxEpoch)
	}
	if r.cell, err = cellOf(*adjacency, strings.Split(*operations, ",")); err != nil {
		return r, err
	}
	raw, err := base64.StdEncoding.DecodeString(*metrics)
	if err != nil {
		return r, fmt.Errorf("metrics: %w", err)
	}
	if r.values, r.params, err = parseMetrics(raw); err != nil {
		return r, fmt.Errorf("metrics: %w", err)
	}
	return r, nil
}

// Fields of ModelMetrics and of EvaluationData.
const (
	fieldEvaluation = 1
	fieldParameters = 2

	fieldTrainingTime = 2
	fieldTrain        = 3
	fieldValidation   = 4
	fieldTest         = 5
)

// parseMetrics reads a ModelMetrics and returns the numbers of tfMetrics from its last evaluation.
func parseMetrics(raw []byte) (values [len(tfMetrics)]float64, params int64, err error) {
	var last []byte
	evaluated := false
	params = -1
	err = fields(raw, func(field protowire.Number, typ protowire.Type, value []byte) error {
		switch {
		case field == fieldEvaluation && typ == protowire.BytesType:
			last, _ = protowire.ConsumeBytes(value)
			evaluated = true
		case field == fieldParameters && typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			params = int64(int32(v))
		case field == fieldEvaluation || field == fieldParameters:
			return fmt.Errorf("field %d has wire type %d", field, typ)
		}
		return nil
	})
	if err != nil {
		return values, 0, fmt.Errorf("protobuf: %w", err)
	}
	if !evaluated {
		return values, 0, errors.New("no evaluation")
	}
	if params < 0 {
		return values, 0, errors.New("no number of parameters")
	}
	position := map[protowire.Number]int{fieldTrain: 0, fieldValidation: 1, fieldTest: 2, fieldTrainingTime: 3}
	var seen [len(tfMetrics)]bool
	err = fields(last, func(field protowire.Number, typ protowire.Type, value []byte) error {
		i, wanted := position[field]
		if !wanted {
			return nil
		}
		if typ != protowire.Fixed64Type {
			return fmt.Errorf("field %d has wire type %d, want a double", field, typ)
		}
		bits, _ := protowire.ConsumeFixed64(value)
		values[i], seen[i] = math.Float64frombits(bits), true
		return nil
	})
	if err != nil {
		return values, 0, fmt.Errorf("protobuf: evaluation: %w", err)
	}
	for i, m := range tfMetrics {
		if !seen[i] {
			return values, 0, fmt.Errorf("the last evaluation has no %s %s", m.Split, m.Name)
		}
		if err := checkValue(m.Name, values[i]); err != nil {
			return values, 0, fmt.Errorf("%s: %w", strings.TrimSpace(m.Split+" "+m.Name), err)
		}
	}
	return values, params, nil
}

// fields visits the fields of a message; value starts with the field's value.
func fields(message []byte, visit func(field protowire.Number, typ protowire.Type, value []byte) error) error {
	for len(message) > 0 {
		field, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(field, typ, message); n < 0 {
			return protowire.ParseError(n)
		}
		if err := visit(field, typ, message[:n]); err != nil {
			return err
		}
		message = message[n:]
	}
	return nil
}
