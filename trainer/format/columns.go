package format

import (
	"fmt"
	"io"
)

// Columns is a pickled dictionary by the names of its keys, as the Python version of CIFAR is. What is neither of
// these is left out.
type Columns struct {
	Integers map[string][]int64
	Texts    map[string][]string
	Bytes    map[string]ByteArray
}

// ByteArray is a NumPy array of bytes, the last dimension innermost.
type ByteArray struct {
	Shape []int
	Data  string
}

// numpyArray is one while it is unpickled: numpy.core.multiarray._reconstruct made it, BUILD fills it.
type numpyArray struct {
	filled bool
	array  ByteArray
}

// numpyType is a numpy.dtype, by its letter and width: "f8".
type numpyType string

// ReadColumns reads a pickle of at most `limit` bytes. Nothing that it names is called.
func ReadColumns(r io.Reader, limit int) (*Columns, error) {
	u := newUnpickler(r)
	u.most, u.mostValues = limit, 2*int64(limit)+maxValues
	u.call = func(f global, arguments tuple) (any, bool, error) {
		switch f {
		case global{"numpy.core.multiarray", "_reconstruct"}, global{"numpy._core.multiarray", "_reconstruct"}:
			return &numpyArray{}, true, nil
		}
		return scalar(f, arguments)
	}
	u.build = func(object, state any) error {
		a, is := object.(*numpyArray)
		if !is {
			return nil
		}
		return a.build(state)
	}
	top, err := u.load()
	if err != nil {
		return nil, err
	}
	d, is := top.(*dict)
	if !is {
		return nil, fmt.Errorf("pickle: want a dictionary, it holds %T", top)
	}
	c := &Columns{map[string][]int64{}, map[string][]string{}, map[string]ByteArray{}}
	for i, key := range d.keys {
		name, is := key.(string)
		if !is {
			continue
		}
		switch v := d.values[i].(type) {
		case *numpyArray:
			if v.filled {
				c.Bytes[name] = v.array
			}
		case *list:
			// A copy for each name, however often one list stands in the pickle.
			if u.spent += itemBytes * int64(len(v.items)); u.spent > u.mostValues {
				return nil, fmt.Errorf("pickle: %.200q: the values take more than %d bytes", name, u.mostValues)
			}
			if numbers, ok := all[int64](v); ok {
				c.Integers[name] = numbers
			} else if texts, ok := all[string](v); ok {
				c.Texts[name] = texts
			}
		}
	}
	return c, nil
}

// build takes an array's state: version, shape, type, whether the first dimension is innermost, and the values.
func (a *numpyArray) build(state any) error {
	s, is := state.(tuple)
	if !is || len(s) != 5 {
		return fmt.Errorf("an array's state of %T, want five values", state)
	}
	shape, isShape := s[1].(tuple)
	kind, isType := s[2].(numpyType)
	values, isText := s[4].(string)
	if !isShape || !isType || kind != "u1" || s[3] != false || !isText || len(shape) > maxDims {
		return nil // of other values than bytes
	}
	sides, ok := all[int64](&list{shape})
	if n, fits := elements(sides); !ok || !fits || n != int64(len(values)) {
		return fmt.Errorf("an array of shape %v with %d bytes", shape, len(values))
	}
	out := ByteArray{Data: values}
	for _, side := range sides {
		out.Shape = append(out.Shape, int(side))
	}
	a.filled, a.array = true, out
	return nil
}

// all is a list of values of one type.
func all[T any](l *list) ([]T, bool) {
	out := make([]T, len(l.items))
	for i, x := range l.items {
		v, is := x.(T)
		if !is {
			return nil, false
		}
		out[i] = v
	}
	return out, len(out) > 0
}
