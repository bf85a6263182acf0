package command

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
)

// Config is what a Source works with. Labels depend on Space and Spec alone, but for its Dir, Timeout and GPUs, and on
// the files that the Spec names.
type Config struct {
	Spec
	Space   space.Space
	Workers int    // how many candidates are trained at once; 0: one a GPU, otherwise one
	Retries int    // how often what failed is tried again
	Cache   string // folder of trainings, which may be shared with other processes
	Done    func(labels.Candidate)
	// Elsewhere runs commands in Local's place, by a program of a Version; nil: this machine does. Records are in Cache
	// then too.
	Elsewhere func(Cache) Executor
	Version   string
}

// Source labels candidates by a command. It is used by one goroutine.
type Source struct {
	*made.Maker[Job, *Record]
	Config
	program *Program
	cache   Cache
	local   *Local // what runs commands, unless they are run elsewhere

	hasMu sync.Mutex
	has   map[space.Arch]bool
}

var (
	_ ledger.Source    = (*Source)(nil)
	_ ledger.Judge     = (*Source)(nil)
	_ ledger.Maker     = (*Source)(nil)
	_ ledger.Submitter = (*Source)(nil)
	_ ledger.Renewable = (*Source)(nil)
	_ labels.Tabled    = (*Source)(nil)
)

// Open checks what can be checked before anything is run. Close the source after use.
func Open(c Config) (*Source, error) {
	if c.Cache == "" || c.Retries < 0 || c.Retries > 100 || c.Workers < 0 || c.Workers > 1024 {
		return nil, fmt.Errorf("cache %q, %d retries, %d workers: want a folder, 0 to 100, 0 to 1024", c.Cache,
			c.Retries, c.Workers)
	}
	s := &Source{Config: c, cache: Cache(c.Cache), has: map[space.Arch]bool{}}
	if c.networked() {
		if err := s.buildable(); err != nil {
			return nil, err
		}
	} else if c.Size != (space.NetworkSize{}) {
		return nil, errors.New("resolution, classes, channels, stacks and modules are of the network in {onnx} and " +
			"{module}, of which the command has none")
	}
	var err error
	if s.program, err = newProgram(c.words, c.Dir, c.Files, c.Env); err != nil {
		return nil, err
	}
	if c.Elsewhere == nil {
		s.local = NewLocal(LocalConfig{Cache: s.cache, Workers: c.Workers, Retries: c.Retries,
			Find: func(Job) (Spec, *Program, space.Space, error) { return s.Spec, s.program, s.Space, nil }}, c.GPUs)
	}
	s.make()
	return s, nil
}

// make makes what makes the labels.
func (s *Source) make() {
	executor := Executor(s.local)
	if s.local == nil {
		executor = s.Elsewhere(s.cache)
	}
	c := made.Config[Job, *Record]{Rules: s.Rules, Epochs: s.Epochs, Chance: s.Chance, Executor: executor, Job: s.job,
		Load: s.cache.Load, Done: s.Done}
	if s.local != nil {
		c.Folder = func(j Job) string { return made.Cache(s.cache).Base(j.Key.hash()) }
	}
	s.Maker = made.New(c)
}

// buildable checks that the space's architectures are networks of the size that is asked for.
func (s *Source) buildable() error {
	switch trainable, err := space.Buildable(s.Space, s.Size, philox.New(s.Seed, philox.PurposeSample, 0)); {
	case !trainable:
		return fmt.Errorf("%w: the command can be given {arch} and {json} of them, and no {onnx} or {module}",
			space.ErrNotTrainable(s.Space))
	case err != nil:
		return fmt.Errorf("no network of this size: %w", err)
	}
	return nil
}

// Fresh is the same source before anything was labelled: close the first one only.
func (s *Source) Fresh() ledger.Source { return s.fresh() }

func (s *Source) fresh() *Source {
	f := &Source{Config: s.Config, program: s.program, cache: s.cache, has: map[space.Arch]bool{}}
	if s.local != nil {
		f.local = s.local.again() // whose places are divided for what one source submits
	}
	f.make()
	return f
}

// Close ends what the source has begun.
func (s *Source) Close() error {
	if s.local == nil {
		return nil
	}
	return s.local.Close()
}

// Has tells whether an architecture is of the space and, where the command is given networks, one of them.
func (s *Source) Has(a space.Arch) bool {
	s.hasMu.Lock()
	defer s.hasMu.Unlock()
	has, known := s.has[a]
	if !known {
		_, err := s.Space.Parse(a.String())
		if _, alike := a.(space.Alike); err == nil && s.networked() && !alike { // one of those was built by Open
			if t, ok := a.(space.Trainable); ok {
				_, err = t.Network(s.Size)
			} else {
				err = space.ErrNotTrainable(s.Space)
			}
		}
		has = err == nil
		s.has[a] = has
	}
	return has
}

// sized is a source whose command is given networks of another size than the space's own.
type sized struct{ *Source }

var _ ledger.Sized = sized{}

// NetworkSize is what they are built for.
func (s sized) NetworkSize() space.NetworkSize { return s.Size }

// Fresh is the same source before anything was labelled.
func (s sized) Fresh() ledger.Source { return sized{s.fresh()} }

// whole is the source as a ledger takes it.
func (s *Source) whole() ledger.Source {
	if s.Size != (space.NetworkSize{}) {
		return sized{s}
	}
	return s
}

// job is the training of an architecture with seed k.
func (s *Source) job(a space.Arch, k int, ends []float64) Job {
	return Job{Key: s.key(a.String(), k), Space: s.Space.Name(), Version: s.Version, Ends: ends,
		Work: float64(max(0, a.Cost().MAdds))}
}

func (s *Source) key(arch string, k int) Key {
	return Key{Format: recordFormat, Command: s.program.Checksum(), Space: keyOf(s.Space), Arch: arch,
		Seed: s.Seed + uint64(k), Epochs: s.Epochs, Size: s.Size}
}

// Facts says what the labels are.
func (s *Source) Facts() ledger.Facts {
	f := ledger.Facts{Source: KindName, Metric: "validation accuracy", Epochs: s.Epochs, Command: s.Command,
		CommandSHA: s.program.FilesChecksum(), Environment: s.program.Environment(), Seed: s.Seed}
	if s.Seeds > 1 {
		f.Seeds = s.Seeds
	}
	return f
}

// Describe says the same in words.
func (s *Source) Describe() string { return s.describe(s.program.Checksum()) }

// Checksum is a fingerprint of everything that labels depend on beside the architecture.
func (s *Source) Checksum() string {
	var parts []any
	for k := range s.Seeds {
		parts = append(parts, s.key("", k))
	}
	text, _ := json.Marshal(append(parts, s.Rules, s.Chance)) // numbers and text
	return digest.Of(text)
}

// WriteTable writes what labelled architectures reached as a CSV table of accuracies, which package table reads. What
// was stopped cannot be written.
func (s *Source) WriteTable(w io.Writer, archs []space.Arch) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"arch", "accuracy"}}
	for _, a := range archs {
		mean, err := s.Whole(a)
		if err != nil {
			return err
		}
		rows = append(rows, []string{a.String(), strconv.FormatFloat(mean, 'g', -1, 64)})
	}
	return out.WriteAll(rows)
}

// Records returns what the cache holds of an architecture's trainings, by seed; nil where it has none.
func (s *Source) Records(a space.Arch) ([]*Record, error) {
	list := make([]*Record, s.Seeds)
	for k := range list {
		var err error
		if list[k], err = s.cache.Load(Job{Key: s.key(a.String(), k)}); err != nil {
			return nil, err
		}
	}
	return list, nil
}
