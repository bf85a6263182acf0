package supernet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
)

// Help explains these labels, for the help of commands that take them.
const Help = `Labels supernet:RUN|FILE?data=D evaluate sub-networks of a supernet (ctnas supernet train, or a file of
once-for-all) with statistics of their own, computed on calibrate=N (2,000) training images, or with
statistics=batch those of each batch: by
split=heldout, images=N (10,000) training images that the supernet has not seen, or split=val, the
validation images. They are accuracies with shared weights, not of trained networks. They are kept in
--label-cache and never measured twice.`

func init() {
	labels.Register(labels.Kind{
		Prefix: Prefix, Usage: Prefix + "RUN|FILE?data=D&key=value (evaluates sub-networks of a supernet)",
		Help: Help, Open: openLabels, Absolute: absolute, Farmed: true,
	})
}

// NewConfig is how an evaluator works on a space with options of labels.
func NewConfig(spec Spec, sp space.Space, o labels.Options) (c Config, err error) {
	c = Config{Spec: spec, Space: sp, Device: o.Device, Workers: o.Workers, Retries: o.Retries, Cache: o.Cache}
	if c.Cache == "" {
		if c.Cache, err = made.Folder("supernet"); err != nil {
			return c, err
		}
	}
	if o.Farm != nil {
		c.Elsewhere = func(keep func(*Result) error) Executor { return job.On[Job](o.Farm, keep) }
		c.Level = o.Level
	}
	if o.Version != nil {
		c.Version, err = o.Version()
	}
	return c, err
}

// OpenWith opens an evaluator whose images are opened as options say.
func OpenWith(ctx context.Context, c Config, o labels.Options) (*Evaluator, error) {
	if o.Images != nil {
		var finish func()
		c.Opening, finish = o.Images()
		defer finish()
	}
	return Open(ctx, c)
}

func openLabels(ctx context.Context, text string, sp space.Space, o labels.Options) (*labels.Labels, error) {
	spec, err := Parse(text)
	if err != nil {
		return nil, &labels.TextError{Err: err}
	}
	if _, sharing := sp.(space.Sharing); !sharing {
		return nil, labels.Errorf(text, "%w", ErrNotSharing(sp))
	}
	c, err := NewConfig(spec, sp, o)
	if err != nil {
		return nil, err
	}
	e, err := OpenWith(ctx, c, o)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = &labels.TextError{Err: err}
		}
		return nil, fmt.Errorf("labels %q: %w", text, err)
	}
	source := NewSource(e, o.Done)
	l := labels.New(sp, source, source.Checksum(), e.Close)
	l.Images = e.ImagesChecksum()
	return l, nil
}

func absolute(text string) (string, error) {
	spec, err := Parse(text)
	if err != nil {
		return "", &labels.TextError{Err: err}
	}
	return spec.String(), nil
}
