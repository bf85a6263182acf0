package trained

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
)

// Stock is what a machine has to train jobs with that come from elsewhere: image sets by their kind.
type Stock struct {
	version string
	sets    map[string]func() (images, error)
	close   []func() error
}

// images are a set with its checksum.
type images struct {
	*data.Dataset
	sum string
}

// generated is the kind of images that every program has. They are made when a job asks for them, which takes seconds.
const generated = "shapes"

// OpenStock opens image sets, each named as data.Open takes it; shapes is always there. A version of the program,
// exact, does jobs of its own alone. The checksums of named sets are computed here, which may read every image.
func OpenStock(ctx context.Context, version string, sets []string, o data.Options) (s *Stock, err error) {
	s = &Stock{version: version, sets: map[string]func() (images, error){}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	open := func(spec string) (i images, err error) {
		if i.Dataset, err = data.Open(spec, o); err == nil {
			i.sum, err = i.Checksum(ctx)
		}
		return i, err
	}
	for _, spec := range sets {
		kind, _, _ := strings.Cut(spec, ":")
		if s.sets[kind] != nil {
			return s, fmt.Errorf("%s: there is a set of this kind already", spec)
		}
		if kind == generated {
			continue
		}
		i, err := open(spec)
		if i.Dataset != nil {
			s.close = append(s.close, i.Close)
		}
		if err != nil {
			return s, err
		}
		s.sets[kind] = func() (images, error) { return i, nil }
	}
	s.sets[generated] = sync.OnceValues(func() (images, error) { return open(generated) })
	return s, nil
}

// Close closes the sets.
func (s *Stock) Close() error {
	var errs []error
	for _, end := range s.close {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// Images are those of a kind, nil where there are none.
func (s *Stock) Images(kind string) *data.Dataset {
	if open := s.sets[kind]; open != nil {
		i, _ := open() // Lacks has told of the error
		return i.Dataset
	}
	return nil
}

// Lacks says why jobs with images of a kind and checksum cannot be done; nil where they can.
func (s *Stock) Lacks(kind, checksum string) error {
	open := s.sets[kind]
	if open == nil {
		return fmt.Errorf("the search has images of %s, and here are only: %s", kind,
			strings.Join(slices.Sorted(maps.Keys(s.sets)), ", "))
	}
	have, err := open()
	if err == nil && have.sum != checksum {
		err = fmt.Errorf("the search has other images than the %s that is here: their checksums are %.12s and %.12s",
			kind, checksum, have.sum)
	}
	return err
}

// Materials are what a job is trained with. What does not fit this program or these images is an error.
func (s *Stock) Materials(_ context.Context, j Job) (m Materials, err error) {
	k := j.Key
	if err := s.Lacks(j.Data, k.Images); err != nil {
		return m, err
	}
	switch {
	case k.Format != recordFormat, k.Version != s.version, k.Decoder != data.Decoder:
		return m, fmt.Errorf("the job is of program %s with records of form %d and decoder %s, this is %s, %d and %s",
			k.Version, k.Format, k.Decoder, s.version, recordFormat, data.Decoder)
	case k.Start != "":
		return m, errors.New("the job begins with weights, which are not sent")
	case strings.Contains(j.Space, ":"):
		return m, fmt.Errorf("search space %q: it is a file of another machine's", j.Space)
	}
	if err := k.Recipe.Check(); err != nil {
		return m, err
	}
	sp, err := space.Open(j.Space)
	if err != nil {
		return m, err
	}
	a, err := sp.Parse(k.Arch)
	if err != nil {
		return m, err
	}
	t, ok := a.(space.Trainable)
	if !ok {
		return m, space.ErrNotTrainable(sp)
	}
	m.Images = s.Images(j.Data).Split(k.Seed, k.Recipe.ValSplit)
	if n := m.Images.Train.Len(); n != k.Train || n < k.Recipe.Batch {
		return m, fmt.Errorf("%d images to train on, the job says %d and a batch of %d", n, k.Train, k.Recipe.Batch)
	}
	m.Net, err = t.Network(networkSize(m.Images, k.Recipe))
	return m, err
}
