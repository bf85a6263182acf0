package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/search/trained"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// absolute are the flags whose values name files, by which function makes them valid in any working directory. What a
// folder keeps of a run goes through these: read from elsewhere, it means the same files.
var absolute = map[string]func(string) (string, error){
	"data":        data.Absolute,
	"label-cache": absolutePath,
	"labels":      absoluteLabels,
	"latency":     absolutePath,
	"recipe":      trainer.AbsoluteRecipe,
	"space":       absoluteSpace,
	"teacher":     absolutePath,
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

func absolutePath(path string) (string, error) { return filepath.Abs(path) }

func absoluteLabels(labels string) (string, error) {
	if strings.HasPrefix(labels, trained.Prefix) {
		spec, err := trained.Parse(labels)
		if err != nil {
			return "", usagef("--labels: %w", err)
		}
		return spec.String(), nil
	}
	if path, ok := strings.CutPrefix(labels, predictorPrefix); ok {
		whole, err := filepath.Abs(path)
		return predictorPrefix + whole, err
	}
	path, _, err := table.ParseLabels(labels)
	if err != nil {
		return "", usagef("--labels: %w", err)
	}
	if slices.Contains(table.Embedded(), path) {
		return labels, nil
	}
	whole, err := filepath.Abs(path)
	before, after, _ := strings.Cut(labels, ":"+path)
	return before + ":" + whole + after, err
}

// absoluteSpace is about a space's file.
func absoluteSpace(name string) (string, error) {
	path, ok := strings.CutPrefix(name, "file:")
	if !ok {
		return name, nil
	}
	whole, err := filepath.Abs(path)
	return "file:" + whole, err
}
