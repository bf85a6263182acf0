package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/onnx"
	"github.com/ctnas/ctnas/trainer/torchmodule"
)

// The files of a candidate's folder that a command is given, or leaves.
const (
	descriptionName = "arch.json"
	networkName     = "network.onnx"
	moduleName      = "network.py"
	logName         = "log.txt"      // stdout and stderr of all attempts
	epochsName      = "epochs.jsonl" // that were told of
)

// Variables of the environment that say what the words in braces do, and more.
const (
	envArch    = "CANDIDATE_ARCH"
	envJSON    = "CANDIDATE_JSON"
	envONNX    = "CANDIDATE_ONNX"
	envModule  = "CANDIDATE_MODULE"
	envSeed    = "CANDIDATE_SEED"
	envDir     = "CANDIDATE_DIR"
	envEpochs  = "CANDIDATE_EPOCHS"  // where they are known
	envAttempt = "CANDIDATE_ATTEMPT" // from 1
	envVisible = "CUDA_VISIBLE_DEVICES"
)

// description is arch.json.
type description struct {
	Space  string `json:"space"`
	Arch   string `json:"arch"`
	Hash   string `json:"hash"`
	Seed   uint64 `json:"seed"`
	Epochs int    `json:"epochs,omitempty"`
	// Layers are the graph's nodes, each after those that it reads; Edges join them, from and to.
	Layers []layer    `json:"layers"`
	Edges  [][2]int   `json:"edges"`
	Made   []decision `json:"decisions"` // that lead to it
	MAdds  *int64     `json:"madds"`     // as the space counts; null: nobody knows
	Params *int64     `json:"params"`
	// Size is of the network in the other files; absent: the space's own.
	Size *space.NetworkSize `json:"size,omitempty"`
}

type layer struct {
	Operation string `json:"operation"`
	Inputs    []int  `json:"inputs"`
}

type decision struct {
	Name   string `json:"name"`
	Choice int    `json:"choice"` // from 0
	Of     int    `json:"of"`     // choices
}

// describe is what there is to say of an architecture.
func describe(sp space.Space, a space.Arch, k Key) (*description, error) {
	g, c := a.Graph(), a.Cost()
	d := &description{Space: sp.Name(), Arch: a.String(), Hash: a.Hash(), Seed: k.Seed, Epochs: k.Epochs,
		Layers: []layer{}, Edges: [][2]int{}, Made: []decision{}, MAdds: space.Known(c.MAdds),
		Params: space.Known(c.Params)}
	if k.Size != (space.NetworkSize{}) {
		d.Size = &k.Size
	}
	names := sp.Alphabet()
	for _, op := range g.Ops {
		d.Layers = append(d.Layers, layer{names[op], []int{}})
	}
	for _, e := range g.Edges {
		from, to := int(e[0]), int(e[1])
		d.Edges = append(d.Edges, [2]int{from, to})
		d.Layers[to].Inputs = append(d.Layers[to].Inputs, from)
	}
	actions, err := sp.Encode(a)
	if err != nil {
		return nil, err
	}
	var counting []bool
	if f := space.FileOf(sp); f != nil {
		counting = f.Counting(a)
	}
	grammar := sp.Grammar()
	for i, step := range grammar.Steps(actions[0]) {
		if counting != nil && !counting[i] { // of a block that is not there
			continue
		}
		d.Made = append(d.Made, decision{grammar.Heads[step.Head].Name, actions[i], step.Choices})
	}
	return d, nil
}

// give writes into a candidate's folder what its command is given, and returns the words' meanings and the variables.
func give(sp space.Space, a space.Arch, k Key, words []string, dir string) (given map[string]string, env []string,
	err error) {
	d, err := describe(sp, a, k)
	if err != nil {
		return nil, nil, err
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, nil, err
	}
	given = map[string]string{heldArch: a.String(), heldJSON: filepath.Join(dir, descriptionName),
		heldSeed: strconv.FormatUint(k.Seed, 10), heldDir: dir}
	if err := files.Write(given[heldJSON], text.Bytes()); err != nil {
		return nil, nil, err
	}
	env = []string{envArch + "=" + a.String(), envJSON + "=" + given[heldJSON], envSeed + "=" + given[heldSeed],
		envDir + "=" + dir}
	if k.Epochs > 0 {
		env = append(env, fmt.Sprintf("%s=%d", envEpochs, k.Epochs))
	}
	if !holds(words, heldONNX) && !holds(words, heldModule) {
		return given, env, nil
	}
	net, err := a.(space.Trainable).Network(k.Size) // Open has seen to it
	if err != nil {
		return nil, nil, err
	}
	if holds(words, heldONNX) {
		given[heldONNX] = filepath.Join(dir, networkName)
		env = append(env, envONNX+"="+given[heldONNX])
		if err := onnx.Write(given[heldONNX], net, net.Initialize(nn.HeFanOut, k.Seed), onnx.Options{
			Metadata: map[string]string{"arch": a.String()}}); err != nil {
			return nil, nil, err
		}
	}
	if holds(words, heldModule) {
		given[heldModule] = filepath.Join(dir, moduleName)
		env = append(env, envModule+"="+given[heldModule])
		source, err := torchmodule.Encode(net)
		if err == nil {
			err = files.Write(given[heldModule], source)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return given, env, nil
}
