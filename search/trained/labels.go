package trained

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
)

// Help explains these labels, for the help of commands that take them.
const Help = "Labels train:DATA?recipe=R train every candidate: DATA and recipes are those of `ctnas " +
	"train`, keys of the\n" +
	`recipe change it (&epochs=30&channels=16). seeds=K takes the mean of K trainings, from seed=N (1) on; stop=median
ends trainings below the median of earlier ones, from epoch stop-after=E on; diverged=fail ends the search where a
training falls apart, which otherwise counts as guessing; failed=chance goes on where one fails however often it is
tried, which otherwise ends the search. on-corrupt=skip (or skip=N, at most N a training) leaves out
images that cannot be read. Trainings are kept in --label-cache and never done twice.`

func init() {
	labels.Register(labels.Kind{
		Prefix: Prefix, Usage: Prefix + "DATA?recipe=R&key=value (trains candidates)",
		Help: Help, Open: openLabels, Absolute: absolute, Farmed: true,
	})
}

// NewConfig is what a text (Parse) says for a space.
func NewConfig(text string, sp space.Space, o labels.Options) (c Config, err error) {
	c = Config{Space: sp, Device: o.Device, Workers: o.Workers, Retries: o.Retries, Cache: o.Cache, Done: o.Done}
	if c.Spec, err = Parse(text); err != nil {
		return c, &labels.TextError{Err: err}
	}
	if c.Cache == "" {
		if c.Cache, err = made.Folder("trained"); err != nil {
			return c, err
		}
	}
	if o.Farm != nil {
		c.Elsewhere = func(cache Cache) Executor { return job.On[Job](o.Farm, cache.Put) }
		c.Level = o.Level
	}
	if o.Version != nil {
		c.Version, err = o.Version()
	}
	return c, err
}

// OpenWith opens a source whose images are opened as options say.
func OpenWith(ctx context.Context, c Config, o labels.Options) (*Source, error) {
	if o.Images != nil {
		var finish func()
		c.Images, finish = o.Images()
		defer finish()
	}
	return Open(ctx, c)
}

func openLabels(ctx context.Context, text string, sp space.Space, o labels.Options) (*labels.Labels, error) {
	c, err := NewConfig(text, sp, o)
	if err != nil {
		return nil, err
	}
	return OpenLabels(ctx, text, c, o)
}

// OpenLabels opens the labels of a text's Config (NewConfig), which may have been changed.
func OpenLabels(ctx context.Context, text string, c Config, o labels.Options) (*labels.Labels, error) {
	source, err := OpenWith(ctx, c, o)
	if err != nil {
		return nil, fmt.Errorf("labels %q: %w", text, err)
	}
	l := labels.New(c.Space, source, source.Checksum(), source.Close)
	l.Images = source.ImagesChecksum()
	return l, nil
}

func absolute(text string) (string, error) {
	spec, err := Parse(text)
	if err != nil {
		return "", &labels.TextError{Err: err}
	}
	return spec.String(), nil
}
