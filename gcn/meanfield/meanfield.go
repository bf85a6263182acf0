// Package meanfield says what a network's variances and gradients are at initialisation, from the graph of a cell
// alone: no network is built, no image read, no label known. In a wide network with batch norm and weights of He et al.
// 2015 both follow from one pass along the edges and one against them (mean field theory: Yang et al., "A Mean Field
// Theory of Batch Normalization", ICLR 2019).
//
// A space says by a Rule what its operations do. A cell then has Count numbers a rule, which are features of a
// comparator. They are the same for any order of its nodes, bit for bit.
package meanfield

import (
	"math"
	"slices"
)

// Op is what an operation does to the variance of its input's elements on the way forward and to the squared norm of
// the gradient on the way back.
type Op struct {
	// Normalised: the operation normalises what it has computed, so that Variance is that of its output whatever comes
	// in, and the gradient is divided by the input's variance.
	Normalised bool
	Variance   float64 // of the output; where it is not normalised a factor
	Gradient   float64 // a factor of the squared norm of the gradient
	Weights    float64 // for each pair of channels: 9 of a 3x3 convolution; 0: the operation learns nothing
}

// Relu is the variance of max(0, z) where z is normal with variance 1.
const Relu = 0.5 - 1/(2*math.Pi)

// Identity hands on what it gets; it is a node that only adds up, too.
var Identity = Op{Variance: 1, Gradient: 1}

// Rule is how the cells of a space behave.
type Rule struct {
	Ops []Op // of each operation of the alphabet; those of the input and the output are not looked at
	// Input is what the edges that leave the input are: a projection by weights of their own, or Identity.
	Input Op
	// Concat: the output concatenates what comes from interior nodes, which have equal shares of its channels, and any
	// other node has as many as the widest that it feeds; what comes from the input is added. Otherwise every node has
	// all channels and the output adds up.
	Concat bool
	// Correlation is that of two tensors that are added.
	Correlation float64
	Cells       int // chained; what the weights of all of them learn is summed
}

// Count is how many numbers Numbers appends for each rule.
func (r *Rule) Count() int { return fixedNumbers + r.learning() }

// Gain is where the logarithm of the gradient's gain stands among a rule's numbers. The lower the gain the better a
// cell is likely to be.
const Gain = 0

// fixedNumbers do not depend on the alphabet.
const fixedNumbers = 7

// learning is how many operations have weights, the input's edges among them.
func (r *Rule) learning() int {
	n := 0
	for _, op := range r.Ops {
		if op.Weights > 0 {
			n++
		}
	}
	if r.Input.Weights > 0 {
		n++
	}
	return n
}

// cell is the state of a pass over one.
type cell struct {
	*Rule
	ops   []uint16
	edges [][2]uint8
	share []float64 // of each node: its part of the output's channels
	sum   []float64 // the variance of what comes in
	vary  []float64 // the variance of what goes out
	grad  []float64 // the squared norm of the gradient in what goes out, of all channels
	back  []float64 // that in what comes in
	terms []float64 // of a sum, which are added in ascending order
}

// Numbers appends the numbers of a cell to dst. Node 0 is the input, the last node the output, edges lead to higher
// numbers and are in ascending order. In this order: logarithms of the gain of the gradient from output to input; of
// the norms of all weights' gradients, summed over the chained cells; of the same times the roots of the channels
// (sensitivity); of the output's variance; the mean logarithm of the variances of interior nodes' inputs; the logarithm
// of the largest gradient in an interior node, and the mean logarithm of these; for each operation that learns, the
// input's edges last, the logarithm of the summed norms of its weights' gradients in one cell.
func (r *Rule) Numbers(dst []float64, ops []uint16, edges [][2]uint8) []float64 {
	n := len(ops)
	flat := make([]float64, 5*n, 6*n+len(edges))
	c := cell{Rule: r, ops: ops, edges: edges, share: flat[:n], sum: flat[n : 2*n], vary: flat[2*n : 3*n],
		grad: flat[3*n : 4*n], back: flat[4*n : 5*n], terms: flat[5*n : 5*n : cap(flat)]}
	c.widths()
	c.forward()
	gain := c.backward()
	return c.append(dst, gain)
}

// total adds up the terms in ascending order, which is the same for any order of the nodes.
func (c *cell) total() float64 {
	slices.Sort(c.terms)
	s := 0.0
	for _, v := range c.terms {
		s += v
	}
	return s
}

// widths gives every node its share of the channels.
func (c *cell) widths() {
	last := len(c.ops) - 1
	for v := range c.share {
		c.share[v] = 1
	}
	if !c.Concat {
		return
	}
	feeding := 0
	for _, e := range c.edges {
		if int(e[1]) == last && e[0] > 0 {
			feeding++
		}
	}
	for v := last - 1; v > 0; v-- {
		c.share[v] = 0
		for _, e := range c.edges {
			if int(e[0]) != v {
				continue
			}
			if int(e[1]) == last {
				c.share[v] = 1 / float64(feeding)
				break
			}
			c.share[v] = max(c.share[v], c.share[e[1]])
		}
	}
}

// forward computes variances. Those of terms that correlate grow faster than their sum.
func (c *cell) forward() {
	last := len(c.ops) - 1
	c.vary[0] = 1
	entering := c.Input.Variance // of what an edge from the input brings
	for v := 1; v <= last; v++ {
		direct := 0.0
		c.terms = c.terms[:0]
		for _, e := range c.edges {
			switch {
			case int(e[1]) != v:
			case e[0] == 0:
				direct = entering
			default:
				c.terms = append(c.terms, c.vary[e[0]])
			}
		}
		if v == last && c.Concat {
			mean := c.total() / max(1, float64(len(c.terms)))
			c.sum[v] = mean + direct + 2*c.Correlation*math.Sqrt(mean*direct)
			c.vary[v] = c.sum[v]
			break
		}
		if direct > 0 {
			c.terms = append(c.terms, direct)
		}
		plain := c.total()
		for i, x := range c.terms {
			c.terms[i] = math.Sqrt(x)
		}
		together := c.total()
		c.sum[v] = (1-c.Correlation)*plain + c.Correlation*together*together
		op := c.ops[v]
		switch {
		case v == last:
			c.vary[v] = c.sum[v]
		case c.Ops[op].Normalised:
			c.vary[v] = c.Ops[op].Variance
		default:
			c.vary[v] = c.Ops[op].Variance * c.sum[v]
		}
	}
}

// tiny keeps a logarithm finite, small keeps a weak gradient from shouting.
const (
	tiny  = 1e-12
	small = 1e-3
)

// backward computes gradients from 1 at the output on, and returns that in the input.
func (c *cell) backward() float64 {
	last := len(c.ops) - 1
	out := max(c.sum[last], tiny)
	c.grad[last], c.back[last] = 1, 1
	for v := last - 1; v > 0; v-- {
		c.terms = c.terms[:0]
		for _, e := range c.edges {
			switch {
			case int(e[0]) != v:
			case int(e[1]) == last:
				c.terms = append(c.terms, c.share[v])
			default:
				c.terms = append(c.terms, c.back[e[1]])
			}
		}
		c.grad[v] = c.total()
		op := c.Ops[c.ops[v]]
		c.back[v] = c.grad[v] * op.Gradient
		if op.Normalised {
			c.back[v] /= max(c.sum[v], tiny)
		}
	}
	c.terms = c.terms[:0]
	for _, e := range c.edges {
		if e[0] != 0 {
			continue
		}
		g := c.back[e[1]] * c.Input.Gradient
		if c.Input.Normalised { // the input is the output of the cell before
			g /= out
		}
		c.terms = append(c.terms, g)
	}
	return c.total()
}

// append appends the numbers.
func (c *cell) append(dst []float64, gain float64) []float64 {
	last := len(c.ops) - 1
	interior := max(1, float64(last-1))
	// Of one cell whose output's gradient is 1: norms of weights' gradients, and these times the roots of the channels.
	norm := func(v int, w, g float64) float64 { return math.Sqrt(c.share[v] * w * g) }
	entering := func(v uint8) float64 { return math.Sqrt(c.Input.Weights * c.back[v]) }
	each := func(f func(v int) (float64, bool)) float64 {
		c.terms = c.terms[:0]
		for v := 1; v < last; v++ {
			if x, ok := f(v); ok {
				c.terms = append(c.terms, x)
			}
		}
		return c.total()
	}
	var learned [256]float64
	k := 0
	for op, does := range c.Ops {
		if does.Weights == 0 {
			continue
		}
		learned[k] = each(func(v int) (float64, bool) { return norm(v, does.Weights, c.grad[v]), int(c.ops[v]) == op })
		k++
	}
	if c.Input.Weights > 0 {
		c.terms = c.terms[:0]
		for _, e := range c.edges {
			if e[0] == 0 {
				c.terms = append(c.terms, entering(e[1]))
			}
		}
		learned[k] = c.total()
		k++
	}
	all := 0.0
	for _, x := range learned[:k] {
		all += x
	}
	c.terms = c.terms[:0]
	for v := 1; v < last; v++ {
		c.terms = append(c.terms, norm(v, c.Ops[c.ops[v]].Weights, c.grad[v])*math.Sqrt(c.share[v]))
	}
	for _, e := range c.edges {
		if e[0] == 0 {
			c.terms = append(c.terms, entering(e[1])*math.Sqrt(c.share[e[1]]))
		}
	}
	sensitivity := c.total()
	// Of the chained cells each gets the gradient that the one behind it hands on, and has half of its weights' norm.
	norms, sensitivities := 0.0, 0.0
	for i := range c.Cells {
		g := math.Sqrt(math.Pow(gain, float64(i)))
		norms += all * g * math.Pow(2, -0.5*float64(i))
		sensitivities += sensitivity * g * math.Pow(2, -float64(i))
	}
	largest := 0.0
	for v := 1; v < last; v++ {
		largest = max(largest, c.grad[v])
	}
	dst = append(dst, math.Log(gain+tiny), math.Log(norms+small), math.Log(sensitivities+small),
		math.Log(c.sum[last]+tiny),
		each(func(v int) (float64, bool) { return math.Log(c.sum[v] + small), true })/interior,
		math.Log(largest+small),
		each(func(v int) (float64, bool) { return math.Log(c.grad[v] + small), true })/interior)
	for _, x := range learned[:k] {
		dst = append(dst, math.Log(x+small))
	}
	return dst
}
