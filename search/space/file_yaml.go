package space

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/names"
)

// joinedEdge and missingEdge are the choices of an optional edge without operations.
const (
	joinedEdge  = "edge"
	missingEdge = "-"
)

var spaceWord = regexp.MustCompile(`^[A-Za-z0-9_.\-]{1,60}$`)

// at makes an error that names a node's line.
func at(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %w", n.Line, fmt.Errorf(format, args...))
}

// spaceReader gathers a space from its file.
type spaceReader struct {
	f          *FileSpace
	operations []option
	absent     string
	identity   string
	onNodes    bool
	nodes      []string
	said       [2]bool       // any operation has multiply-adds, parameters
	unsaid     [2]*yaml.Node // an operation that has none
}

// parseSpace reads the format that docs/spaces.md describes.
func parseSpace(text []byte) (*FileSpace, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	} else if err != nil {
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	r := &spaceReader{f: &FileSpace{}}
	top, err := keys(doc.Content[0], "space", "fixed", "operations", "absent", "identity", "on", "nodes", "edges",
		"blocks")
	if err != nil {
		return nil, err
	}
	if r.f.name, err = word(top["space"], doc.Content[0], "space"); err != nil {
		return nil, err
	}
	if slices.Contains([]string{nasbench101Name, mobileName, dartsName, filePrefix}, r.f.name) {
		return nil, at(top["space"], "%s is the name of a built-in space", r.f.name)
	}
	if n := top["absent"]; n != nil { // before the operations, for it needs no cost
		if r.absent, err = word(n, n, "absent"); err != nil {
			return nil, err
		}
	}
	if n := top["identity"]; n != nil {
		if r.identity, err = word(n, n, "identity"); err != nil {
			return nil, err
		}
		if r.identity == r.absent {
			return nil, at(n, "identity and absent are both %q", r.absent)
		}
		if top["blocks"] != nil {
			return nil, at(n, "identity belongs to a cell: in a chain every place is another one")
		}
	}
	if n := top["operations"]; n != nil {
		if r.operations, err = r.options(n, false); err != nil {
			return nil, err
		}
	}
	switch {
	case top["blocks"] != nil && (top["nodes"] != nil || top["edges"] != nil || top["on"] != nil):
		err = at(top["blocks"], "blocks make a chain: nodes, edges and on belong to a cell")
	case top["blocks"] != nil:
		err = r.chain(top["blocks"])
	case top["nodes"] == nil || top["edges"] == nil:
		err = at(doc.Content[0], "want blocks, or nodes and edges")
	default:
		err = r.cell(top["nodes"], top["edges"], top["on"])
	}
	if err != nil {
		return nil, err
	}
	if err := r.costs(top["fixed"]); err != nil {
		return nil, err
	}
	r.f.numberParts()
	names := r.nodes
	if names == nil {
		names = []string{inputName, outputName}
	}
	return r.f, r.f.number(names)
}

// keys returns the values of a mapping by key; only those allowed, each once.
func keys(n *yaml.Node, allowed ...string) (map[string]*yaml.Node, error) {
	if n.Kind != yaml.MappingNode {
		return nil, at(n, "want keys and values: %s", strings.Join(allowed, ", "))
	}
	out := map[string]*yaml.Node{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case !slices.Contains(allowed, key.Value):
			return nil, at(key, "%w", names.Unknown("key", key.Value, allowed))
		case out[key.Value] != nil:
			return nil, at(key, "%s comes twice", key.Value)
		}
		out[key.Value] = n.Content[i+1]
	}
	return out, nil
}

// word reads a name. owner is where the trouble is when there is none.
func word(n, owner *yaml.Node, what string) (string, error) {
	if n == nil {
		return "", at(owner, "%s is missing", what)
	}
	if n.Kind != yaml.ScalarNode || !spaceWord.MatchString(n.Value) {
		return "", at(n, "%s %.60q: want a word of letters, digits, '_', '.' and '-'", what, n.Value)
	}
	return n.Value, nil
}

// items are a list's, 1 to most.
func items(n *yaml.Node, what string, most int) ([]*yaml.Node, error) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 || len(n.Content) > most {
		return nil, at(n, "%s: want a list of 1 to %d", what, most)
	}
	return n.Content, nil
}

// maxOptions bounds the operations of a choice; a code has a byte for one.
const maxOptions = 250

// options reads operations: words, or name with madds and params. With known a word may be one of the file's operations
// and takes its costs.
func (r *spaceReader) options(n *yaml.Node, known bool) ([]option, error) {
	if n.Kind == yaml.MappingNode {
		return r.integers(n)
	}
	list, err := items(n, "operations", maxOptions)
	if err != nil {
		return nil, err
	}
	var out []option
	for _, item := range list {
		var o option
		priced := [2]bool{}
		if item.Kind == yaml.ScalarNode {
			if o.name, err = word(item, item, "operation"); err != nil {
				return nil, err
			}
			if i := slices.IndexFunc(r.operations, func(x option) bool { return x.name == o.name }); known && i >= 0 {
				o, priced = r.operations[i], [2]bool{true, true} // it was looked at where it stands
			} else if known && r.operations != nil {
				return nil, at(item, "operation %q is none of the file's operations", o.name)
			}
		} else {
			part, err := keys(item, "name", "madds", "params")
			if err != nil {
				return nil, err
			}
			if o.name, err = word(part["name"], item, "name"); err != nil {
				return nil, err
			}
			for k, to := range []*int64{&o.cost.MAdds, &o.cost.Params} {
				if cost := part[[]string{"madds", "params"}[k]]; cost != nil {
					if *to, err = quantity(cost); err != nil {
						return nil, err
					}
					r.said[k], priced[k] = true, true
				}
			}
		}
		if o.name == joinedEdge || o.name == missingEdge {
			return nil, at(item, "operation %q: the word stands for an edge without operation", o.name)
		}
		if slices.ContainsFunc(out, func(x option) bool { return x.name == o.name }) {
			return nil, at(item, "operation %q comes twice", o.name)
		}
		for k := range priced {
			if !priced[k] && o.name != r.absent {
				r.unsaid[k] = item
			}
		}
		out = append(out, o)
	}
	return out, nil
}

var sizeText = regexp.MustCompile(`^(\d{1,15}(?:\.\d{1,9})?)([KMG]?)$`)

// quantity reads a number of multiply-adds or parameters, 1200, 3.5K, 12M.
func quantity(n *yaml.Node) (int64, error) {
	part := sizeText.FindStringSubmatch(n.Value)
	if n.Kind != yaml.ScalarNode || part == nil {
		return 0, at(n, "%.40q is not a size such as 3.5K or 12M", n.Value)
	}
	v, err := strconv.ParseFloat(part[1], 64)
	factor := map[string]float64{"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[part[2]]
	if err != nil || v*factor > 1e15 {
		return 0, at(n, "%.40q is too large", n.Value)
	}
	return int64(math.Round(v * factor)), nil
}

// mark marks the absent option of a list and the identity.
func (r *spaceReader) mark(list []option) []option {
	out := slices.Clone(list)
	for i := range out {
		out[i].absent = r.absent != "" && out[i].name == r.absent
		out[i].identity = r.identity != "" && out[i].name == r.identity
	}
	return out
}

// choices are an entry's own operations, or the file's.
func (r *spaceReader) choices(own, entry *yaml.Node) ([]option, error) {
	if own == nil {
		if r.operations == nil {
			return nil, at(entry, "no operations, and the file lists none")
		}
		return r.mark(r.operations), nil
	}
	list, err := r.options(own, true)
	return r.mark(list), err
}

// maxPlaces bounds a file's choices; the controller takes at most 64 decisions anyway.
const maxPlaces = 250

func (r *spaceReader) chain(n *yaml.Node) error {
	list, err := items(n, "blocks", maxPlaces)
	if err != nil {
		return err
	}
	for _, item := range list {
		part, err := keys(item, "name", "operations", "repeat", "tied", "when")
		if err != nil {
			return err
		}
		p := choice{low: 1, high: 1}
		if p.name, err = word(part["name"], item, "name"); err != nil {
			return err
		}
		if err := r.fresh(p.name, part["name"]); err != nil {
			return err
		}
		if p.options, err = r.choices(part["operations"], item); err != nil {
			return err
		}
		if repeat := part["repeat"]; repeat != nil {
			if p.low, p.high, err = repeated(repeat); err != nil {
				return err
			}
		}
		if tied := part["tied"]; tied != nil {
			if p.tied, err = truth(tied, "tied"); err != nil {
				return err
			}
			if p.tied && p.high == 1 {
				return at(tied, "tied: %s is one block: want repeat too", p.name)
			}
		}
		if when := part["when"]; when != nil {
			if p.when, err = r.when(when); err != nil {
				return err
			}
		}
		r.f.choices = append(r.f.choices, p)
	}
	return nil
}

// truth reads true or false.
func truth(n *yaml.Node, what string) (bool, error) {
	if n.Value != "true" && n.Value != "false" {
		return false, at(n, "%s %.20q: want true or false", what, n.Value)
	}
	return n.Value == "true", nil
}

// fresh refuses a name that a choice has already.
func (r *spaceReader) fresh(name string, n *yaml.Node) error {
	if slices.ContainsFunc(r.f.choices, func(p choice) bool { return p.name == name }) {
		return at(n, "%s comes twice", name)
	}
	return nil
}

// repeated reads how many blocks stand in a row: a number, or the least and the most.
func repeated(n *yaml.Node) (low, high int, err error) {
	ends := []*yaml.Node{n, n}
	if n.Kind == yaml.SequenceNode {
		ends = n.Content
	}
	if len(ends) != 2 {
		return 0, 0, at(n, "repeat: want a number, or the least and the most, as [2, 4]")
	}
	for i, to := range []*int{&low, &high} {
		v, err := strconv.Atoi(ends[i].Value)
		if err != nil || v < 1 || v > 64 {
			return 0, 0, at(ends[i], "repeat %.20q: want 1..64", ends[i].Value)
		}
		*to = v
	}
	if low > high {
		return 0, 0, at(n, "repeat: from %d to %d", low, high)
	}
	return low, high, nil
}

func (r *spaceReader) cell(nodes, edges, on *yaml.Node) error {
	if on != nil {
		if on.Value != "edges" && on.Value != "nodes" {
			return at(on, "on %.20q: want edges or nodes", on.Value)
		}
		r.onNodes = on.Value == "nodes"
	}
	list, err := items(nodes, "nodes", maxPlaces)
	if err != nil {
		return err
	}
	if len(list) < 2 {
		return at(nodes, "want at least the input and the output")
	}
	r.f.nodes = len(list)
	for i, item := range list {
		own := (*yaml.Node)(nil)
		name, decides := item, r.onNodes
		if item.Kind == yaml.MappingNode {
			part, err := keys(item, "name", "operations")
			if err != nil {
				return err
			}
			name, own = part["name"], part["operations"]
			decides = decides || own != nil
		}
		text, err := word(name, item, "name")
		if err != nil {
			return err
		}
		switch ends := i == 0 || i == len(list)-1; {
		case slices.Contains(r.nodes, text):
			return at(item, "node %q comes twice", text)
		case ends && own != nil:
			return at(item, "node %q: input and output have no operations", text)
		case !ends && decides:
			p := choice{name: text, low: 1, high: 1, to: i, node: true}
			if p.options, err = r.choices(own, item); err != nil {
				return err
			}
			if slices.ContainsFunc(p.options, func(o option) bool { return o.absent }) {
				return at(item, "node %q: absent is for edges and blocks", text)
			}
			r.f.choices = append(r.f.choices, p)
		}
		r.nodes = append(r.nodes, text)
	}
	return r.edges(edges)
}

func (r *spaceReader) edges(n *yaml.Node) error {
	list, err := items(n, "edges", maxPlaces)
	if err != nil {
		return err
	}
	joined := map[[2]int]bool{}
	for _, item := range list {
		part := map[string]*yaml.Node{}
		if item.Kind == yaml.SequenceNode && len(item.Content) == 2 {
			part["from"], part["to"] = item.Content[0], item.Content[1]
		} else if part, err = keys(item, "from", "to", "operations", "optional"); err != nil {
			return err
		}
		var ends [2]int
		for k, key := range []string{"from", "to"} {
			name, err := word(part[key], item, key)
			if err != nil {
				return err
			}
			if ends[k] = slices.Index(r.nodes, name); ends[k] < 0 {
				return at(part[key], "no node is called %q", name)
			}
		}
		if ends[0] >= ends[1] {
			return at(item, "edge %s to %s: want the nodes in the order of the list", r.nodes[ends[0]],
				r.nodes[ends[1]])
		}
		if joined[ends] {
			return at(item, "edge %s to %s comes twice", r.nodes[ends[0]], r.nodes[ends[1]])
		}
		joined[ends] = true
		optional := false
		if o := part["optional"]; o != nil {
			if optional, err = truth(o, "optional"); err != nil {
				return err
			}
		}
		p := choice{name: r.nodes[ends[0]] + ">" + r.nodes[ends[1]], low: 1, high: 1, from: ends[0], to: ends[1]}
		switch {
		case part["operations"] != nil || !r.onNodes && r.operations != nil:
			if p.options, err = r.choices(part["operations"], item); err != nil {
				return err
			}
		case !optional:
			r.f.plain = append(r.f.plain, ends)
			continue
		default:
			p.options = []option{{name: joinedEdge}}
		}
		if optional {
			p.options = append(p.options, option{name: missingEdge, absent: true})
		}
		r.f.choices = append(r.f.choices, p)
	}
	return nil
}

// costs reads what every network has and checks that costs are said of all operations or of none.
func (r *spaceReader) costs(fixed *yaml.Node) error {
	if fixed != nil {
		part, err := keys(fixed, "madds", "params")
		if err != nil {
			return err
		}
		for k, to := range []*int64{&r.f.fixed.MAdds, &r.f.fixed.Params} {
			if n := part[[]string{"madds", "params"}[k]]; n != nil {
				if *to, err = quantity(n); err != nil {
					return err
				}
				if !r.said[k] {
					return at(n, "no operation has a cost of this kind")
				}
			}
		}
	}
	for k, what := range []string{"madds", "params"} {
		if r.said[k] && r.unsaid[k] != nil {
			return at(r.unsaid[k], "no %s, which other operations have", what)
		}
	}
	r.f.priced = r.said
	return nil
}
