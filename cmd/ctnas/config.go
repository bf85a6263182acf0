package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/names"
	"github.com/ctnas/ctnas/internal/setting"
)

const maxConfigBytes = 1 << 20

// setFromFile sets the flags named in a YAML file that neither the line nor the environment has set.
func setFromFile(flags *pflag.FlagSet, path string) error {
	text, err := files.ReadText(path, maxConfigBytes)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	if err := setFromYAML(flags, text); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	return nil
}

func setFromYAML(flags *pflag.FlagSet, text []byte) error {
	return setting.EachKey(text, func(key string, value *yaml.Node) error {
		if key == setting.RunKey {
			return nil
		}
		flag := flags.Lookup(key)
		if flag == nil || key == "config" || key == "help" {
			return fmt.Errorf("unknown key %q%s", key, names.Meant(key, flagNames(flags)))
		}
		if flag.Changed {
			return nil
		}
		if err := setFromNode(flags, flag, value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
}

func setFromNode(flags *pflag.FlagSet, flag *pflag.Flag, value *yaml.Node) error {
	switch {
	case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
		return flags.Set(flag.Name, value.Value)
	case value.Kind == yaml.SequenceNode:
		list, ok := flag.Value.(pflag.SliceValue)
		if !ok {
			return errors.New("takes one value, not a list")
		}
		var items []string
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode {
				return errors.New("want a list of plain values")
			}
			items = append(items, item.Value)
		}
		flag.Changed = true
		return list.Replace(items)
	case value.Kind == yaml.MappingNode:
		if of, ok := flag.Value.(yaml.Unmarshaler); ok {
			flag.Changed = true
			return of.UnmarshalYAML(value)
		}
	}
	return errors.New("want a value or a list of values")
}

// flagNames are the long names of flags.
func flagNames(flags *pflag.FlagSet) (list []string) {
	flags.VisitAll(func(f *pflag.Flag) { list = append(list, f.Name) })
	return list
}
