package guided

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// State is everything that the rest of a search depends on. Architectures are written as their text.
type State struct {
	Position
	Round      int
	Comparator []byte
	Asked      [][]string // architectures that the comparator scored, in the groups in which it did
	Controller []byte
	Beta       string // empty: none yet
	Past       []string
	Pseudo     []pseudoText

	First, Last []string
	Curve       []run.Point
}

type pseudoText struct {
	A, B   string
	Target float32
	Round  int
}

func texts(archs []space.Arch) []string {
	out := make([]string, len(archs))
	for i, a := range archs {
		out[i] = a.String()
	}
	return out
}

// State is what a checkpoint keeps.
func (s *Search) State() (*State, error) {
	state := &State{
		Position: s.Position, Round: s.Round, Controller: s.Policy.State(), Past: texts(s.Past),
		First: texts(s.First), Last: texts(s.Last), Curve: s.Curve,
	}
	if s.Beta != nil {
		state.Beta = s.Beta.String()
	}
	for _, p := range s.Pseudo {
		state.Pseudo = append(state.Pseudo, pseudoText{p.A.String(), p.B.String(), p.Target, p.Round})
	}
	if s.Comparator != nil {
		var err error
		if state.Comparator, err = s.Comparator.MarshalBinary(); err != nil {
			return nil, err
		}
	}
	if s.Trained && s.Scorer != nil {
		for _, group := range s.Scorer.asked {
			state.Asked = append(state.Asked, texts(group))
		}
	}
	return state, nil
}

// SetState takes over what a checkpoint kept, but for the comparator and its scores (Rescore).
func (s *Search) SetState(old *State) (err error) {
	s.Position, s.Round, s.Curve = old.Position, old.Round, old.Curve
	if old.Beta != "" {
		if s.Beta, err = s.parse(old.Beta); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		archs *[]space.Arch
		texts []string
	}{{&s.Past, old.Past}, {&s.First, old.First}, {&s.Last, old.Last}} {
		if *list.archs, err = s.parseAll(list.texts); err != nil {
			return err
		}
	}
	for _, p := range old.Pseudo {
		pair, err := s.parseAll([]string{p.A, p.B})
		if err != nil {
			return err
		}
		s.Pseudo = append(s.Pseudo, Pseudo{pair[0], pair[1], p.Target, p.Round})
	}
	if err := s.Policy.Restore(old.Controller); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// Rescore takes over the comparator that a checkpoint kept and, where it has been trained, asks it what it was asked.
func (s *Search) Rescore(ctx context.Context, old *State) (err error) {
	if len(old.Comparator) == 0 {
		return nil
	}
	s.Comparator = &gcn.Comparator{}
	if err := s.Comparator.UnmarshalBinary(old.Comparator); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if !s.Trained {
		return nil
	}
	if s.Scorer, err = NewScorer(ctx, s.Deps.Space, s.Device, s.Comparator, s.List); err != nil {
		return err
	}
	for _, group := range old.Asked {
		archs, err := s.parseAll(group)
		if err != nil {
			return err
		}
		if err := s.Scorer.learn(archs); err != nil {
			return err
		}
	}
	return nil
}

func (s *Search) parse(text string) (space.Arch, error) {
	a, err := s.Deps.Space.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return a, nil
}

func (s *Search) parseAll(texts []string) (out []space.Arch, err error) {
	for _, text := range texts {
		a, err := s.parse(text)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}
