package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/files"
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
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want flag names with values", top.Line)
	}
	var seen []string
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if key.Value == setting.RunKey {
			continue
		}
		if slices.Contains(seen, key.Value) {
			return fmt.Errorf("line %d: %s stands there twice", key.Line, key.Value)
		}
		seen = append(seen, key.Value)
		flag := flags.Lookup(key.Value)
		if flag == nil || key.Value == "config" || key.Value == "help" {
			return fmt.Errorf("line %d: unknown key %q", key.Line, key.Value)
		}
		if flag.Changed {
			continue
		}
		if err := setFromNode(flags, flag, value); err != nil {
			return fmt.Errorf("line %d: %s: %w", key.Line, key.Value, err)
		}
	}
	return nil
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
	}
	return errors.New("want a value or a list of values")
}
