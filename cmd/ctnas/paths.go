package main

import (
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// absolute are the flags whose values name files, by which function makes them valid in any working directory. What a
// folder keeps of a run goes through these: read from elsewhere, it means the same files.
var absolute = map[string]func(string) (string, error){
	"data":        data.Absolute,
	"label-cache": files.Absolute,
	"labels":      absoluteLabels,
	"latency":     files.Absolute,
	"recipe":      trainer.AbsoluteRecipe,
	"space":       space.Absolute,
	"teacher":     files.Absolute,
}

// recorded is the value of a flag as a run's folder keeps it. An empty one names nothing.
func recorded(flag, value string) (string, error) {
	if whole, names := absolute[flag]; names && value != "" {
		return whole(value)
	}
	return value, nil
}

// record makes values what the folder of a run keeps, by their flags.
func record(values map[string]*string) error {
	for flag, value := range values {
		var err error
		if *value, err = recorded(flag, *value); err != nil {
			return err
		}
	}
	return nil
}

func absoluteLabels(text string) (string, error) {
	whole, err := labels.Absolute(text)
	return whole, labelsError(err)
}
