package setting

import "reflect"

// Change is a setting that has two values.
type Change struct {
	Name, Before, After string
	MayChange           bool // when a run goes on
}

// Changes lists in what two lists of the same settings differ.
func Changes(before, after *List) []Change {
	var list []Change
	for i, s := range before.all {
		other := after.all[i]
		if reflect.DeepEqual(reflect.ValueOf(s.at).Elem().Interface(), reflect.ValueOf(other.at).Elem().Interface()) {
			continue
		}
		list = append(list, Change{s.Name, s.flag.Value.String(), other.flag.Value.String(), s.resume == changes})
	}
	return list
}
