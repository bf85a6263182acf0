package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/files"
)

// runBlock is the key of a configuration that says how it was run; it is not read back.
const runBlock = "run"

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
		if key.Value == runBlock {
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

// notRecorded are flags that say how a run is watched, not what it computes.
var notRecorded = []string{"config", "help", "json", "log-level", "manifests", "out", "quiet", "resume"}

// resolvedConfig is the config.yaml of a run: every flag with the value in use, and the block run with facts about this run. Reading it
// back with --config repeats the command. run is a struct or a map that YAML can hold.
func resolvedConfig(flags *pflag.FlagSet, run any) ([]byte, error) {
	top := &yaml.Node{Kind: yaml.MappingNode}
	scalar := func(text, tag string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text, Tag: tag} }
	flags.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(notRecorded, f.Name) {
			return
		}
		var value *yaml.Node
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			for _, item := range list.GetSlice() {
				value.Content = append(value.Content, scalar(item, "!!str"))
			}
		} else if size, ok := f.Value.(*sizeValue); ok { // as search.Config has it
			value = scalar(strconv.FormatInt(int64(*size), 10), "!!int")
		} else {
			text := f.Value.String()
			if whole, err := recorded(f.Name, text); err == nil { // what cannot be read names nothing
				text = whole
			}
			value = scalar(text, yamlTag(f.Value.Type()))
		}
		top.Content = append(top.Content, scalar(f.Name, "!!str"), value)
	})
	var block yaml.Node
	if err := block.Encode(run); err != nil {
		return nil, err
	}
	top.Content = append(top.Content, scalar(runBlock, "!!str"), &block)
	return yaml.Marshal(top)
}

func yamlTag(flagType string) string {
	switch flagType {
	case "bool":
		return "!!bool"
	case "int", "int64", "uint64":
		return "!!int"
	case "float64":
		return "!!float"
	}
	return "!!str"
}
