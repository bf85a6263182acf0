package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/search/space"
)

// Stock is the commands that a machine may run for jobs that come from elsewhere, by their checksums: a job names one
// and brings none.
type Stock struct {
	version string
	known   map[string]known
}

type known struct {
	spec    Spec
	program *Program
}

// OpenStock opens commands, each written as in --labels. A version of the program, exact, does jobs of its own alone.
func OpenStock(version string, texts []string) (*Stock, error) {
	s := &Stock{version, map[string]known{}}
	for _, text := range texts {
		spec, err := Parse(Prefix + strings.TrimPrefix(text, Prefix))
		if err != nil {
			return nil, err
		}
		p, err := newProgram(spec.words, spec.Dir, spec.Files, spec.Env)
		if err != nil {
			return nil, err
		}
		s.known[p.Checksum()] = known{spec, p}
	}
	return s, nil
}

// Lacks says why jobs of a command cannot be done; nil where they can.
func (s *Stock) Lacks(checksum string) error {
	if _, here := s.known[checksum]; here {
		return nil
	}
	have := "this worker may run none"
	if len(s.known) > 0 {
		var list []string
		for sum, k := range s.known {
			list = append(list, fmt.Sprintf("%.12s (`%s`)", sum, k.spec.Command))
		}
		slices.Sort(list)
		have = "this worker may run only " + strings.Join(list, ", ")
	}
	return fmt.Errorf("the search runs a command of checksum %.12s, made of its words, files and variables, and %s",
		checksum, have)
}

// Changed is an error where a file of a command is no longer what it was: this machine can do none of its jobs.
func (s *Stock) Changed(checksum string) error { return s.known[checksum].program.unchanged() }

// GPUs are those of the command of a checksum.
func (s *Stock) GPUs(checksum string) []string { return s.known[checksum].spec.GPUs }

// Find is LocalConfig's. What does not fit this program is an error.
func (s *Stock) Find(j Job) (Spec, *Program, space.Space, error) {
	if err := s.Lacks(j.Key.Command); err != nil {
		return Spec{}, nil, nil, err
	}
	k := s.known[j.Key.Command]
	spec := k.spec
	spec.Epochs, spec.Size = j.Key.Epochs, j.Key.Size
	switch err := spec.Settings().Check(); {
	case err != nil:
		return spec, nil, nil, err
	case j.Key.Format != recordFormat, j.Version != s.version:
		return spec, nil, nil, fmt.Errorf("the job is of program %s with records of form %d, this is %s and %d",
			j.Version, j.Key.Format, s.version, recordFormat)
	case strings.Contains(j.Space, ":"):
		return spec, nil, nil, fmt.Errorf("search space %q: it is a file of another machine's", j.Space)
	}
	sp, err := space.Open(j.Space)
	if err == nil && keyOf(sp) != j.Key.Space {
		err = fmt.Errorf("search space %q is another here", j.Space)
	}
	return spec, k.program, sp, err
}
