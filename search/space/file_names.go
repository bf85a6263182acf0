package space

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// byName puts choices that say which they are, NAME=CHOICE, into the order of the file. Either all of them do, or none:
// then they stand in that order.
func (f *FileSpace) byName(parts []string) ([]string, error) {
	named := slices.IndexFunc(parts, func(part string) bool { return strings.Contains(part, "=") })
	if named < 0 {
		return parts, nil
	}
	out, said := make([]string, len(f.choices)), make([]bool, len(f.choices))
	for _, part := range parts {
		name, chosen, ok := strings.Cut(part, "=")
		if name = strings.TrimSpace(name); !ok {
			return nil, fmt.Errorf("%.40q does not say at which place, and %.40q does", part, parts[named])
		}
		i := slices.IndexFunc(f.choices, func(p choice) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("%.40q is no place of %s", name, f.name)
		}
		if said[i] {
			return nil, fmt.Errorf("%s is said twice", name)
		}
		out[i], said[i] = strings.TrimSpace(chosen), true
	}
	for i := range f.choices {
		if !said[i] && f.choices[i].when != nil { // it may not be there
			out[i], said[i] = missingEdge, true
		}
	}
	if i := slices.Index(said, false); i >= 0 {
		return nil, fmt.Errorf("%s is not said", f.choices[i].name)
	}
	return out, nil
}

// integers reads operations that are whole numbers, {from: 16, to: 64, step: 8}, perhaps with the madds and params that
// each one more of the number costs.
func (r *spaceReader) integers(n *yaml.Node) ([]option, error) {
	part, err := keys(n, "from", "to", "step", "madds", "params")
	if err != nil {
		return nil, err
	}
	numbers := map[string]int{"step": 1}
	for _, key := range []string{"from", "to", "step"} {
		switch at1 := part[key]; {
		case at1 == nil && key != "step":
			return nil, at(n, "operations: %s is missing", key)
		case at1 != nil:
			v, err := strconv.Atoi(at1.Value)
			if err != nil || at1.Kind != yaml.ScalarNode || v < 0 || v > 1<<30 {
				return nil, at(at1, "%s %.40q: want a whole number, not negative", key, at1.Value)
			}
			numbers[key] = v
		}
	}
	from, to, step := numbers["from"], numbers["to"], numbers["step"]
	if step < 1 || from > to || (to-from)/step+1 > maxOptions {
		return nil, at(n, "operations from %d to %d in steps of %d: want 1 to %d numbers", from, to, step, maxOptions)
	}
	var out []option
	each := Cost{}
	for k, cost := range []*int64{&each.MAdds, &each.Params} {
		at1 := part[[]string{"madds", "params"}[k]]
		if at1 == nil {
			r.unsaid[k] = n
			continue
		}
		if *cost, err = quantity(at1); err != nil {
			return nil, err
		}
		if *cost > 1e15/int64(max(to, 1)) {
			return nil, at(at1, "%.40q is too large", at1.Value)
		}
		r.said[k] = true
	}
	for v := from; v <= to; v += step {
		out = append(out, option{name: strconv.Itoa(v), cost: Cost{MAdds: each.MAdds * int64(v),
			Params: each.Params * int64(v)}})
	}
	return out, nil
}
