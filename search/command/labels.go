package command

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
)

// Help explains these labels, for the help of commands that take them.
const Help = `Labels 'exec:COMMAND {arch}' run a command of your own for every candidate, whose last line on stdout is
JSON: {"accuracy": 0.91}, with other numbers, "test_accuracy", "seconds" or "diverged": true as it likes. It is
given {arch}, a text, {json}, a file that describes it, {onnx} or {module}, its network, {seed} and {dir}, a folder
that stays. Keys behind a question mark: timeout=2h, epochs=N with stop=median (it prints {"epoch": 1, "accuracy":
0.5} as it goes), seeds=K, env=NAME, files=F, gpus=0,1. Trainings are kept in --label-cache and never done twice.`

func init() {
	labels.Register(labels.Kind{
		Prefix: Prefix, Usage: Prefix + "COMMAND {arch}?key=value (runs a command of your own)",
		Help: Help, Open: openLabels, Absolute: absolute, Farmed: true, Says: true,
	})
}

func openLabels(_ context.Context, text string, sp space.Space, o labels.Options) (l *labels.Labels, err error) {
	c := Config{Space: sp, Workers: o.Workers, Retries: o.Retries, Cache: o.Cache, Done: o.Done}
	if c.Spec, err = Parse(text); err != nil {
		return nil, &labels.TextError{Err: err}
	}
	if c.Cache == "" {
		if c.Cache, err = made.Folder("exec"); err != nil {
			return nil, err
		}
	}
	if o.Farm != nil {
		c.Elsewhere = func(cache Cache) Executor { return job.On[Job](o.Farm, cache.Put) }
		if c.Version, err = o.Version(); err != nil {
			return nil, err
		}
	}
	s, err := Open(c)
	if err != nil {
		return nil, fmt.Errorf("labels %q: %w", text, err)
	}
	return labels.New(sp, s.whole(), s.Checksum(), s.Close), nil
}

func absolute(text string) (string, error) {
	s, err := Parse(text)
	if err != nil {
		return "", &labels.TextError{Err: err}
	}
	return s.String(), nil
}
