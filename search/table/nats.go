package table

import (
	"bytes"
	"cmp"
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/format"
)

// NATS-Bench (Dong et al., "NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology and Size", 2021) comes as
// a folder with a pickle an architecture, compressed by bzip2, and one that lists their texts: the archives whose names
// end in -simple. Its topology part has the cells of NAS-Bench-201.

const natsMeta = "meta.pickle.pbz2"

var natsFile = regexp.MustCompile(`^(\d{6})\.pickle\.pbz2$`)

// What is read of a folder. The unpacked pickles are bounded by format.ReadPickle; an architecture's has 0.3 MB.
const (
	maxNATSFile  = 4 << 20
	maxNATSFiles = 1 << 16
)

// natsSets are where the benchmark's own code finds validation and test accuracy of a set of images
// (nats_bench/api_utils.py, remap_dataset_set_names): of CIFAR-10 the first in networks trained on half of its training
// images.
var natsSets = map[string]struct{ validation, test natsPart }{
	"cifar10":        {natsPart{"cifar10-valid", "x-valid"}, natsPart{"cifar10", "ori-test"}},
	"cifar100":       {natsPart{"cifar100", "x-valid"}, natsPart{"cifar100", "x-test"}},
	"ImageNet16-120": {natsPart{"ImageNet16-120", "x-valid"}, natsPart{"ImageNet16-120", "x-test"}},
}

type natsPart struct{ trained, part string }

// natsSeeds are those that networks were trained with: runs 1, 2, 3 and 4.
var natsSeeds = []int64{777, 888, 999, 111}

// natsEpochs are how long: each has its results under its number.
var natsEpochs = []int{12, 200}

// natsMetrics are the table's: of each number of epochs the mean of the runs that there are, and each of them.
var natsMetrics = func() (list []Metric) {
	for _, epochs := range natsEpochs {
		for _, split := range []string{"validation", "test"} {
			for run := range len(natsSeeds) + 1 {
				list = append(list, Metric{Accuracy, split, run, epochs})
			}
		}
	}
	return list
}()

// isNATS tells whether a path is a folder of the benchmark, or one that should be one.
func isNATS(path string) bool {
	stat, err := os.Stat(path)
	return err == nil && stat.IsDir()
}

// natsJob is an architecture's file.
type natsJob struct {
	record int64
	name   string
	packed []byte
}

// readNATS reads a folder. Its checksum is that of all files that are read, with their names and sizes.
func readNATS(ctx context.Context, path string, sp space.Coder, o Options) (*Table, error) {
	in := &input{ctx: ctx, path: path, threads: o.Threads, space: sp}
	fail := func(err error) (*Table, error) { return nil, in.fail(-1, 0, 0, err) }
	cells, ok := sp.(space.NASBench201)
	if !ok {
		return fail(fmt.Errorf("it is a folder, and a table is a file: NATS-Bench's folder is one of the space "+
			"nasbench201, not %s", sp.Name()))
	}
	if o.Columns != (Columns{}) {
		return fail(errors.New("column names are set, and this is a folder of NATS-Bench, not CSV"))
	}
	set := cmp.Or(o.Dataset, "cifar10")
	names, total, err := natsNames(path)
	if err != nil {
		return fail(err)
	}
	whole, done := sha256.New(), int64(0)
	read := func(name string) ([]byte, error) {
		text, err := files.Read(filepath.Join(path, name), maxNATSFile)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(whole, "%s %d\n", name, len(text))
		_, _ = whole.Write(text)
		if done += int64(len(text)); o.Progress != nil {
			o.Progress(done, total)
		}
		return text, nil
	}
	archs, err := natsArchs(read)
	if err != nil {
		return fail(err)
	}
	b := newBuilder(in, natsMetrics)
	err = inOrder(ctx, in.workers(), func(emit func(natsJob) error) error {
		for i, name := range names {
			packed, err := read(name)
			if err != nil {
				return in.fail(int64(i), 0, 0, err)
			}
			if err := emit(natsJob{int64(i), name, packed}); err != nil {
				return err
			}
		}
		return nil
	}, func(j natsJob) (row, error) {
		r, err := natsRow(cells, j, archs, set)
		if err != nil {
			err = in.fail(j.record, 0, 0, fmt.Errorf("%s: %w", j.name, err))
		}
		r.at = place{record: j.record}
		return r, err
	}, func(r row) error { return b.addRow(in, r) })
	if err != nil {
		return nil, err
	}
	t, err := b.finish(in)
	if err != nil {
		return nil, err
	}
	t.path, t.format = path, FormatNATS
	t.source = Source{File: filepath.Base(path) + ", " + set, Format: FormatNATS,
		SHA256: hex.EncodeToString(whole.Sum(nil))}
	return t, nil
}

// natsNames are the files of the architectures, in order, and the bytes of all of them.
func natsNames(path string) (names []string, total int64, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, 0, err
	}
	listed := false
	for _, e := range entries {
		if listed = listed || e.Name() == natsMeta; !natsFile.MatchString(e.Name()) && e.Name() != natsMeta {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, 0, err
		}
		if total += info.Size(); e.Name() != natsMeta {
			names = append(names, e.Name())
		}
	}
	switch {
	case !listed:
		return nil, 0, fmt.Errorf("a folder without %s: that of NATS-Bench has one, and its name ends in -simple",
			natsMeta)
	case len(names) == 0 || len(names) > maxNATSFiles:
		return nil, 0, fmt.Errorf("%d files of architectures (000000.pickle.pbz2 and so on)", len(names))
	}
	return names, total, nil
}

// unpackNATS unpacks a file's pickle.
func unpackNATS(packed []byte) (format.Value, error) {
	r := bzip2.NewReader(bytes.NewReader(packed))
	v, err := format.ReadPickle(r)
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(r, 1)) // the checksum stands behind the last byte
	}
	return v, err
}

// natsArchs are the texts of all architectures, by their number.
func natsArchs(read func(name string) ([]byte, error)) ([]string, error) {
	packed, err := read(natsMeta)
	if err != nil {
		return nil, err
	}
	meta, err := unpackNATS(packed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", natsMeta, err)
	}
	field, _ := meta.Field("meta_archs")
	items, ok := field.Items()
	if !ok || len(items) == 0 {
		return nil, fmt.Errorf("%s lists no architectures (meta_archs)", natsMeta)
	}
	archs := make([]string, len(items))
	for i, item := range items {
		if archs[i], ok = item.Text(); !ok {
			return nil, fmt.Errorf("%s: architecture %d is no text", natsMeta, i)
		}
	}
	if !strings.HasPrefix(archs[0], "|") {
		return nil, fmt.Errorf("the architectures are written like %.40q: this is NATS-Bench's size part, and its "+
			"topology part is read", archs[0])
	}
	return archs, nil
}

// natsRow reads an architecture's file.
func natsRow(sp space.NASBench201, j natsJob, archs []string, set string) (r row, err error) {
	number, _ := strconv.Atoi(natsFile.FindStringSubmatch(j.name)[1]) // six digits
	if number >= len(archs) {
		return r, fmt.Errorf("architecture %d of %d", number, len(archs))
	}
	all, err := unpackNATS(j.packed)
	if err != nil {
		return r, err
	}
	if r.arch, err = sp.Parse(archs[number]); err != nil {
		return r, err
	}
	r.values = make([]float64, len(natsMetrics))
	for i := range r.values {
		r.values[i] = math.NaN()
	}
	r.claims = noClaims
	known := false
	for e, epochs := range natsEpochs {
		results, found := all.Field(strconv.Itoa(epochs))
		if !found {
			continue
		}
		if text, _ := field(results, "arch_str").Text(); text != archs[number] {
			return r, fmt.Errorf("the results are of %.100q, and %s lists %q", text, natsMeta, archs[number])
		}
		parts := []natsPart{natsSets[set].validation, natsSets[set].test}
		for p, part := range parts {
			values, params, err := natsRuns(results, part, epochs)
			if err != nil {
				return r, fmt.Errorf("%d epochs: %w", epochs, err)
			}
			if params >= 0 && set == "cifar10" { // the space's costs are those of CIFAR-10's network
				r.claims.params = params
			}
			sum, n := 0.0, 0
			at := (e*len(parts) + p) * (len(natsSeeds) + 1)
			for k, v := range values {
				if r.values[at+1+k] = v; !math.IsNaN(v) {
					sum, n, known = sum+v, n+1, true
				}
			}
			if n > 0 {
				r.values[at] = sum / float64(n)
			}
		}
	}
	if !known {
		return r, fmt.Errorf("no accuracy on %s", set)
	}
	r.hash, err = r.claims.verify(r.arch)
	return r, err
}

// field is a dictionary's, or none.
func field(v format.Value, name string) format.Value {
	f, _ := v.Field(name)
	return f
}

// natsRuns are the accuracies at the end of each run, not a number where it was not made, and the network's parameters;
// -1 where nothing says them.
func natsRuns(results format.Value, part natsPart, epochs int) (values []float64, params int64, err error) {
	values, params = slices.Repeat([]float64{math.NaN()}, len(natsSeeds)), -1
	for key, run := range field(results, "all_results").Pairs() {
		of, _ := key.Items()
		if len(of) != 2 {
			return nil, 0, errors.New("results without a set of images and a seed")
		}
		if name, _ := of[0].Text(); name != part.trained {
			continue
		}
		seed, _ := of[1].Int()
		k := slices.Index(natsSeeds, seed)
		if k < 0 {
			return nil, 0, fmt.Errorf("%s with seed %d: want one of %d", part.trained, seed, natsSeeds)
		}
		percent, ok := field(field(run, "eval_acc1es"), fmt.Sprintf("%s@%d", part.part, epochs-1)).Float()
		if !ok {
			continue
		}
		if !(percent >= 0 && percent <= 100) {
			return nil, 0, fmt.Errorf("%s with seed %d: %s of %g %%", part.trained, seed, part.part, percent)
		}
		values[k] = percent / 100
		if millions, ok := field(run, "params").Float(); ok && millions >= 0 && millions < 1e6 {
			params = int64(math.Round(millions * 1e6))
		}
	}
	return values, params, nil
}
