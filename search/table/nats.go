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
// end in -simple; or as one file (nats_file.go). Its topology part has the cells of NAS-Bench-201, its size part the
// channels of five stages.

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

// natsDataset is which images' accuracies are read.
func natsDataset(o Options) string { return cmp.Or(o.Dataset, "cifar10") }

type natsPart struct{ trained, part string }

// natsSeeds are those that networks were trained with: runs 1, 2, 3 and 4.
var natsSeeds = []int64{777, 888, 999, 111}

// natsEpochs are how long: each has its results under one of these keys, the latter of NAS-Bench-201. Of 1 and 90
// epochs are networks of the size part.
var (
	natsEpochs = []int{1, 12, 90, 200}
	natsKeys   = map[int][]string{1: {"01", "1"}, 12: {"12", "less"}, 90: {"90"}, 200: {"200", "full"}}
)

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
	if !natsSpace(sp) {
		return fail(fmt.Errorf("it is a folder, and a table is a file: NATS-Bench's folder is one of the space "+
			"nasbench201 or file:docs/examples/nats-size.yaml, not %s", sp.Name()))
	}
	in.tell()
	if o.Columns != (Columns{}) {
		return fail(errors.New("column names are set, and this is a folder of NATS-Bench, not CSV"))
	}
	set := natsDataset(o)
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
	archs, err := natsFolderArchs(read)
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
		r, err := in.natsRowOf(j, archs, set)
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

// natsFolderArchs are the texts of all architectures, by their number.
func natsFolderArchs(read func(name string) ([]byte, error)) ([]string, error) {
	packed, err := read(natsMeta)
	if err != nil {
		return nil, err
	}
	meta, err := unpackNATS(packed)
	if err == nil {
		var archs []string
		if archs, err = natsArchs(meta); err == nil {
			return archs, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", natsMeta, err)
}

// natsArchs are the texts of all architectures in a dictionary of the benchmark.
func natsArchs(meta format.Value) ([]string, error) {
	items, ok := field(meta, "meta_archs").Items()
	if !ok || len(items) == 0 {
		return nil, errors.New("it lists no architectures (meta_archs)")
	}
	archs := make([]string, len(items))
	for i, item := range items {
		if archs[i], ok = item.Text(); !ok {
			return nil, fmt.Errorf("architecture %d is no text", i)
		}
	}
	return archs, nil
}

// natsSpace tells whether a space may be one of the benchmark's.
func natsSpace(sp space.Space) bool {
	_, cells := sp.(space.NASBench201)
	return cells || space.FileOf(sp) != nil
}

// natsArch reads an architecture's text: |op~0|+… of the topology part, 8:16:24:32:40 of the size part, whose space
// comes from a file.
func natsArch(sp space.Space, text string) (space.Arch, error) {
	cells, size := strings.HasPrefix(text, "|"), space.FileOf(sp) != nil
	switch {
	case cells && size:
		return nil, fmt.Errorf("the architectures are written like %.60q: the space of NATS-Bench's topology part and "+
			"of NAS-Bench-201 is nasbench201", text)
	case !cells && !size:
		return nil, fmt.Errorf("the architectures are written like %.40q: the space of NATS-Bench's size part is "+
			"file:docs/examples/nats-size.yaml", text)
	case size:
		return sp.Parse(strings.ReplaceAll(text, ":", "|"))
	}
	return sp.Parse(text)
}

// natsRowOf reads an architecture's file.
func (in *input) natsRowOf(j natsJob, archs []string, set string) (r row, err error) {
	number, _ := strconv.Atoi(natsFile.FindStringSubmatch(j.name)[1]) // six digits
	if number >= len(archs) {
		return r, fmt.Errorf("architecture %d of %d", number, len(archs))
	}
	all, err := unpackNATS(j.packed)
	if err != nil {
		return r, err
	}
	r, text, err := in.natsRow(all, set)
	if err == nil && text != archs[number] {
		err = fmt.Errorf("the results are of %.100q, and %s lists %q", text, natsMeta, archs[number])
	}
	return r, err
}

// natsRow reads an architecture's results: a dictionary of those of each number of epochs. text is the architecture's.
func (in *input) natsRow(all format.Value, set string) (r row, text string, err error) {
	r.values = make([]float64, len(natsMetrics))
	for i := range r.values {
		r.values[i] = math.NaN()
	}
	r.claims = noClaims
	known := false
	for e, epochs := range natsEpochs {
		var results format.Value
		found := false
		for _, key := range natsKeys[epochs] {
			if !found {
				results, found = all.Field(key)
			}
		}
		if !found {
			continue
		}
		of, _ := field(results, "arch_str").Text()
		if text != "" && of != text {
			return r, text, fmt.Errorf("the results are of %.100q and of %.100q", text, of)
		}
		text = of
		parts := []natsPart{natsSets[set].validation, natsSets[set].test}
		for p, part := range parts {
			values, claims, err := natsRuns(results, part, epochs)
			if err != nil {
				return r, text, fmt.Errorf("%d epochs: %w", epochs, err)
			}
			if set == "cifar10" || in.tells != [len(told)]bool{} { // nasbench201's costs are CIFAR-10's
				r.claims = claims.or(r.claims)
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
		return r, text, fmt.Errorf("no accuracy on %s", set)
	}
	if r.arch, err = natsArch(in.space, text); err != nil {
		return r, text, err
	}
	compared := r.claims
	compared.madds = -1 // what the benchmark counts as such is another number than the space's
	if in.tells[1] {
		compared.params = -1 // nothing to compare with
	}
	r.hash, err = compared.verify(r.arch)
	return r, text, err
}

// or are the claims where they are made, elsewhere the others.
func (c claims) or(others claims) claims {
	if c.params < 0 {
		c.params = others.params
	}
	if c.madds < 0 {
		c.madds = others.madds
	}
	return c
}

// field is a dictionary's, or none.
func field(v format.Value, name string) format.Value {
	f, _ := v.Field(name)
	return f
}

// natsFinal is under which name a part's accuracy stands at the end of the training.
func natsFinal(part string, epochs int) string { return fmt.Sprintf("%s@%d", part, epochs-1) }

// natsRuns are the accuracies at the end of each run, not a number where it was not made, and what the network takes.
func natsRuns(results format.Value, part natsPart, epochs int) (values []float64, costs claims, err error) {
	values, costs = slices.Repeat([]float64{math.NaN()}, len(natsSeeds)), noClaims
	final := natsFinal(part.part, epochs)
	for key, run := range field(results, "all_results").Pairs() {
		of, _ := key.Items()
		if len(of) != 2 {
			return nil, costs, errors.New("results without a set of images and a seed")
		}
		if name, _ := of[0].Text(); name != part.trained {
			continue
		}
		seed, _ := of[1].Int()
		k := slices.Index(natsSeeds, seed)
		if k < 0 {
			return nil, costs, fmt.Errorf("%s with seed %d: want one of %d", part.trained, seed, natsSeeds)
		}
		percent, ok := field(field(run, "eval_acc1es"), final).Float()
		if !ok {
			continue
		}
		if !(percent >= 0 && percent <= 100) {
			return nil, costs, fmt.Errorf("%s with seed %d: %s of %g %%", part.trained, seed, part.part, percent)
		}
		values[k] = percent / 100
		for name, to := range map[string]*int64{"params": &costs.params, "flop": &costs.madds} {
			if millions, ok := field(run, name).Float(); ok && millions >= 0 && millions < 1e6 {
				*to = int64(math.Round(millions * 1e6))
			}
		}
	}
	return values, costs, nil
}
