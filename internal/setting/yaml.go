package setting

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/names"
)

// RunKey is the block of a config.yaml that says how a run went; it is no setting and is not read back.
const RunKey = "run"

// YAML is a config.yaml: every setting that is kept with the value in use, in the list's order, and behind them the
// block run of what YAML can hold; none where run is nil.
func (l *List) YAML(run any) ([]byte, error) {
	doc := yaml.Node{Kind: yaml.MappingNode}
	add := func(name string, value any) error {
		var key yaml.Node
		node, err := encode(value)
		if err := errors.Join(key.Encode(name), err); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		doc.Content = append(doc.Content, &key, node)
		return nil
	}
	for _, s := range l.all {
		value := reflect.ValueOf(s.at).Elem()
		if s.unkept || s.omitted && (value.IsZero() || value.Kind() == reflect.Slice && value.Len() == 0) {
			continue
		}
		if err := add(s.Name, value.Interface()); err != nil {
			return nil, err
		}
		if node := doc.Content[len(doc.Content)-1]; node.Kind == yaml.SequenceNode {
			node.Style = yaml.FlowStyle
		}
	}
	if run != nil {
		if err := add(RunKey, run); err != nil {
			return nil, err
		}
	}
	return yaml.Marshal(&doc)
}

// encode is a value as a node. In lists text of several lines is quoted: as a block there the library writes some of
// it, such as what begins with an empty line, in a way that it does not read.
func encode(value any) (*yaml.Node, error) {
	list, is := value.([]string)
	if !is {
		node := &yaml.Node{}
		return node, node.Encode(value)
	}
	node := &yaml.Node{Kind: yaml.SequenceNode}
	for _, text := range list {
		one := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Style: yaml.DoubleQuotedStyle}
		if !strings.ContainsAny(text, "\n\r") {
			if err := one.Encode(text); err != nil {
				return nil, err
			}
		}
		node.Content = append(node.Content, one)
	}
	return node, nil
}

// Read sets what a YAML file says, whose keys must be settings.
func (l *List) Read(text []byte) error { return l.read(text, false) }

// ReadConfig sets what a config.yaml says. Keys that are no settings are left to whoever wrote them.
func (l *List) ReadConfig(text []byte) error { return l.read(text, true) }

func (l *List) read(text []byte, others bool) error {
	return EachKey(text, func(key string, value *yaml.Node) error {
		s := l.Lookup(key)
		switch {
		case s == nil && others:
			return nil
		case s == nil:
			return fmt.Errorf("unknown key %q%s", key, names.Meant(key, l.Names()))
		}
		if err := s.decode(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
}

// EachKey visits the keys of a YAML file in its order, each once, with their values. An error of the visit gets the
// key's line before it.
func EachKey(text []byte, visit func(key string, value *yaml.Node) error) error {
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want names of settings with values", top.Line)
	}
	seen := map[string]bool{}
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: want the name of a setting", key.Line)
		case seen[key.Value]:
			return fmt.Errorf("line %d: %s stands there twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		if err := visit(key.Value, value); err != nil {
			return fmt.Errorf("line %d: %w", key.Line, err)
		}
	}
	return nil
}

// Set sets one setting from text, as if it stood in a file.
func (l *List) Set(name, text string) error {
	s := l.Lookup(name)
	if s == nil {
		return fmt.Errorf("unknown key %q%s", name, names.Meant(name, l.Names()))
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Value: text}
	if _, word := s.at.(*string); word { // whatever else YAML would take it for
		node.Tag = "!!str"
	}
	if err := s.decode(node); err != nil {
		return fmt.Errorf("%s %q: %w", name, text, err)
	}
	return nil
}

// decode sets the field from YAML, which by itself would take nothing for 0 and cut 2.5 down to a whole number.
func (s *Setting) decode(node *yaml.Node) error {
	if node.ShortTag() == "!!null" {
		return errors.New("want a value")
	}
	field := reflect.New(reflect.TypeOf(s.at).Elem())
	if field.Elem().CanInt() || field.Elem().CanUint() {
		if err := whole(node); err != nil {
			return err
		}
	}
	if err := node.Decode(field.Interface()); err != nil {
		return errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	reflect.ValueOf(s.at).Elem().Set(field.Elem())
	return nil
}

// whole refuses numbers with a point that are not whole.
func whole(node *yaml.Node) error {
	var v float64
	if node.ShortTag() != "!!float" || node.Decode(&v) != nil || v == math.Trunc(v) && 0 <= v && v <= 1<<53 {
		return nil
	}
	return fmt.Errorf("%g: want a whole number", v)
}
