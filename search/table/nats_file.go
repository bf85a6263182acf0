package table

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/format"
)

// NAS-Bench-201 (Dong and Yang, ICLR 2020) is a file that torch.save wrote (NAS-Bench-201-v1_1-096897.pth, 4.7 GB),
// NATS-Bench one pickle compressed by bzip2 (NATS-tss-v1_0-3ffb9.pickle.pbz2). Both are a dictionary whose arch2infos
// has a dictionary an architecture, with its results after each number of epochs, and of these those of each set of
// images and seed (api_201.py and api_utils.py of their repositories). They are read in parts: of a run what counts, of
// an architecture its row.

// readNATSFile reads such a file.
func readNATSFile(in *input) (*builder, error) {
	if !natsSpace(in.space) {
		return nil, in.fail(-1, 0, 0, fmt.Errorf("this is a file of NAS-Bench-201 or NATS-Bench, whose spaces are "+
			"nasbench201 and file:docs/examples/nats-size.yaml, not %s", in.space.Name()))
	}
	b := newBuilder(in, natsMetrics)
	var listed []natsListed
	finals := map[string]bool{}
	for _, epochs := range natsEpochs {
		for _, set := range natsSets {
			finals[natsFinal(set.validation.part, epochs)] = true
			finals[natsFinal(set.test.part, epochs)] = true
		}
	}
	architecture := func(all format.Value) error {
		r, text, err := in.natsRow(all, natsDataset(Options{Dataset: in.dataset}))
		r.at = place{record: int64(b.len())}
		if err != nil {
			return in.fail(r.at.record, 0, 0, err)
		}
		for _, results := range all.Pairs() {
			number, _ := field(results, "arch_index").Int()
			listed = append(listed, natsListed{number, text})
			break
		}
		return b.addRow(in, r)
	}
	root, err := format.ReadParts(in.r, func(d format.Value) (taken bool, err error) {
		switch {
		case has(d, "eval_acc1es"): // a run
			field(d, "eval_acc1es").Keep(func(key format.Value) bool {
				text, _ := key.Text()
				return finals[text]
			})
			d.Keep(func(key format.Value) bool {
				text, _ := key.Text()
				return slices.Contains([]string{"eval_acc1es", "params", "flop"}, text)
			})
			return true, nil
		case natsInfo(d): // an architecture
			err := architecture(d)
			d.Keep(func(format.Value) bool { return false })
			return true, err
		}
		return false, nil
	})
	if known := (*Error)(nil); err != nil && !errors.As(err, &known) {
		err = in.fail(int64(b.len()), 0, 0, unpackError(err))
	}
	if err != nil {
		return nil, err
	}
	archs, err := natsArchs(root)
	if err == nil && b.len() == 0 {
		err = errors.New("it has no results (arch2infos)")
	}
	for _, l := range listed {
		if err == nil && (l.number < 0 || l.number >= int64(len(archs)) || archs[l.number] != l.text) {
			err = fmt.Errorf("architecture %d is %.100q, and meta_archs has another one there", l.number, l.text)
		}
	}
	if err != nil {
		return nil, in.fail(-1, 0, 0, err)
	}
	return b, nil
}

// natsListed is an architecture with its number in the list of all.
type natsListed struct {
	number int64
	text   string
}

// has tells whether a dictionary has a key.
func has(d format.Value, name string) bool {
	_, found := d.Field(name)
	return found
}

// natsInfo tells whether a dictionary is an architecture's: each of its entries has results.
func natsInfo(d format.Value) bool {
	n := 0
	for key, v := range d.Pairs() {
		text, is := key.Text()
		if !is || !has(v, "all_results") || !has(v, "arch_str") || strings.Trim(text, "0123456789lesfu") != "" {
			return false
		}
		n++
	}
	return n > 0
}

// tell notes which costs the space does not say.
func (in *input) tell() {
	if f := space.FileOf(in.space); f != nil {
		madds, params := f.Priced()
		in.tells = [len(told)]bool{!madds, !params}
	}
}
