package trainer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/data"
)

// Matching says which of a network's classes those of an image set are. A network's logits are in the order of the
// classes that it was trained on, an image set's labels in the order of its own: the same number need not be the same
// class.
type Matching struct {
	Network    []string // the network's classes, in the order of its logits
	ByPosition bool     // by the order of the classes, for want of names
	Note       string   // what should be told of it in words; empty: the classes are the same, by name and order

	to []int32 // the network's number of each of the set's classes; -1: it has no such class
}

// MatchClasses matches the classes of some of a set's images with those of a network's weights, by name. Only classes
// that some image is of count. names are those that the weights name; nil: they name none. outputs is how many logits
// the weights give; 0: nobody knows. Classes that cannot be matched are an error that names them.
//
// Numbers are no names: where one side has nothing else, the order decides, and Note says so.
func MatchClasses(names []string, outputs int, d *data.Dataset, images *data.Set) (*Matching, error) {
	m := &Matching{Network: names, to: make([]int32, len(d.Classes))}
	switch {
	case names != nil:
	case outputs == 0 || outputs == len(d.Classes):
		m.Network = d.Classes
		return m.byPosition("the weights do not name their classes: those of the images are taken in their order, %s",
			listed(d.Classes)), nil
	case d.Indexed && outputs > len(d.Classes):
		m.Network = make([]string, outputs)
		for i := range m.Network {
			m.Network[i] = fmt.Sprint(i)
		}
		return m.byPosition("the weights do not name their %d classes: "+
			"the images' numbers, up to %d, are taken for theirs", outputs, len(d.Classes)-1), nil
	default:
		return nil, fmt.Errorf("the weights give %d logits and do not name their classes, and the images are of %d: "+
			"nothing says which is which", outputs, len(d.Classes))
	}
	at := make(map[string]int32, len(names))
	for i, name := range names {
		if _, twice := at[name]; twice {
			return nil, fmt.Errorf("the weights name the class %q twice", name)
		}
		at[name] = int32(i)
	}
	for i, name := range d.Classes {
		if to, known := at[name]; known {
			m.to[i] = to
		} else {
			m.to[i] = -1
		}
	}
	present := make([]bool, len(d.Classes))
	for i := range images.Len() {
		present[images.Label(i)] = true
	}
	var unknown []string
	for i, name := range d.Classes {
		if present[i] && m.to[i] < 0 {
			unknown = append(unknown, name)
		}
	}
	switch numbered, other := data.Numbered(d.Classes), data.Numbered(names); {
	case unknown == nil:
		m.tell(d.Classes, present)
	case numbered && !other && len(d.Classes) <= len(names):
		m.byPosition("the images' classes have numbers, not names: "+
			"they are taken for the weights' classes in their order, %s", listed(names))
	case other && !numbered && len(d.Classes) == len(names):
		m.byPosition("the weights' classes have numbers, not names: "+
			"the images' classes are taken for them in their order, %s", listed(d.Classes))
	default:
		return nil, fmt.Errorf("the weights do not know these classes of the images: %s; they know %s",
			listed(unknown), listed(names))
	}
	return m, nil
}

func (m *Matching) byPosition(note string, args ...any) *Matching {
	m.ByPosition, m.Note = true, fmt.Sprintf(note, args...)
	for i := range m.to {
		m.to[i] = int32(i)
	}
	return m
}

// tell sets the note of classes that were matched by name.
func (m *Matching) tell(classes []string, present []bool) {
	var absent []string
	for i, name := range m.Network {
		if k := slices.Index(m.to, int32(i)); k < 0 || !present[k] {
			absent = append(absent, name)
		}
	}
	switch {
	case absent != nil:
		m.Note = fmt.Sprintf("the images are of %d of the weights' %d classes, matched by name; there are none of %s",
			len(m.Network)-len(absent), len(m.Network), listed(absent))
	case !slices.Equal(classes, m.Network):
		m.Note = "the images' classes are in another order than the weights', and matched by name"
	case data.Numbered(classes):
		m.Note = "numbers, not names: the same number is taken for the same class"
	}
}

// Apply gives images the labels that the network has for their classes.
func (m *Matching) Apply(images *data.Set) *data.Set { return images.Relabelled(m.to) }

// order is, for each class of the set, the network's logit; nil where all logits are in their places.
func (m *Matching) order() []int32 {
	if len(m.to) != len(m.Network) {
		return m.to
	}
	for i, to := range m.to {
		if to != int32(i) {
			return m.to
		}
	}
	return nil
}

// mostListed is how many names an error or a note may list.
const mostListed = 8

// listed are names for people, the first few of many.
func listed(names []string) string {
	if len(names) <= mostListed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, … (%d in all)", strings.Join(names[:mostListed], ", "), len(names))
}
