package rnn

import "math"

// NetworkReference follows one given sequence in float64 with parameters in the network's layout: the logarithm of its
// probability, the sum of its decisions' entropies, and the probabilities of each decision. With grad, the gradient of
// dlogp*logp + dentropy*entropy is added to it.
func NetworkReference(n *Network, params []float64, actions []int, dlogp, dentropy float64, grad []float64) (logp,
	entropy float64, probs [][]float64) {
	tensors := map[string]Tensor{}
	for _, t := range n.Tensors() {
		tensors[t.Name] = t
	}
	get := func(t Tensor, r, c int) float64 { return params[t.At(r, c)] }
	add := func(t Tensor, r, c int, v float64) { grad[t.At(r, c)] += v }
	wih, whh, bih, bhh := tensors["lstm.weight_ih"], tensors["lstm.weight_hh"], tensors["lstm.bias_ih"],
		tensors["lstm.bias_hh"]
	type headTensors struct{ embedding, weight, bias, key, query, value Tensor }
	heads := make([]headTensors, len(n.Grammar.Heads))
	for i, h := range n.Grammar.Heads {
		heads[i] = headTensors{tensors[h.Name+".embedding"], tensors[h.Name+".weight"], tensors[h.Name+".bias"],
			tensors[h.Name+".key"], tensors[h.Name+".query"], tensors[h.Name+".value"]}
	}
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	hidden := n.Hidden
	type decision struct {
		Step
		input             []float64
		fromHead, fromRow int
		h0, c0, h, c      []float64
		gates             [4][]float64
		squashed          [][]float64 // attention: tanh(W1 e + W2 h) of each choice
		p                 []float64
		entropy           float64
	}
	steps := append([]Step{n.Grammar.First}, n.Grammar.Variants[actions[0]]...)
	var tape []decision
	h, c := make([]float64, hidden), make([]float64, hidden)
	for t, s := range steps {
		d := decision{Step: s, h0: h, c0: c, h: make([]float64, hidden), c: make([]float64, hidden),
			input: make([]float64, hidden), fromHead: -1}
		if t > 0 {
			d.fromHead, d.fromRow = steps[t-1].Head, actions[t-1]
			for k := range hidden {
				d.input[k] = get(heads[d.fromHead].embedding, d.fromRow, k)
			}
		}
		for gate := range 4 {
			d.gates[gate] = make([]float64, hidden)
			for j := range hidden {
				r := gate*hidden + j
				z := get(bih, 0, r) + get(bhh, 0, r)
				for k := range hidden {
					z += get(wih, r, k)*d.input[k] + get(whh, r, k)*h[k]
				}
				if gate == 2 {
					d.gates[gate][j] = math.Tanh(z)
				} else {
					d.gates[gate][j] = sigmoid(z)
				}
			}
		}
		for j := range hidden {
			d.c[j] = d.gates[1][j]*c[j] + d.gates[0][j]*d.gates[2][j]
			d.h[j] = d.gates[3][j] * math.Tanh(d.c[j])
		}
		head, of := n.Grammar.Heads[s.Head], heads[s.Head]
		logits := make([]float64, s.Choices)
		most := math.Inf(-1)
		for i := range logits {
			if head.Kind == Linear {
				logits[i] = get(of.bias, 0, i)
				for k := range hidden {
					logits[i] += get(of.weight, i, k) * d.h[k]
				}
			} else {
				d.squashed = append(d.squashed, make([]float64, hidden))
				for j := range hidden {
					z := 0.0
					for k := range hidden {
						z += get(of.key, j, k)*get(of.embedding, i, k) + get(of.query, j, k)*d.h[k]
					}
					d.squashed[i][j] = math.Tanh(z)
					logits[i] += get(of.value, 0, j) * d.squashed[i][j]
				}
			}
			most = math.Max(most, logits[i])
		}
		sum := 0.0
		for i := range logits {
			sum += math.Exp(logits[i] - most)
		}
		d.p = make([]float64, s.Choices)
		for i := range logits {
			lp := logits[i] - most - math.Log(sum)
			d.p[i] = math.Exp(lp)
			d.entropy -= d.p[i] * lp
		}
		logp += math.Log(d.p[actions[t]])
		entropy += d.entropy
		probs = append(probs, d.p)
		tape = append(tape, d)
		h, c = d.h, d.c
	}
	if grad == nil {
		return logp, entropy, probs
	}
	dh, dc := make([]float64, hidden), make([]float64, hidden)
	for t := len(tape) - 1; t >= 0; t-- {
		d := tape[t]
		head, of := n.Grammar.Heads[d.Head], heads[d.Head]
		for i, p := range d.p {
			g := -dlogp*p - dentropy*p*(math.Log(p)+d.entropy)
			if i == actions[t] {
				g += dlogp
			}
			if head.Kind == Linear {
				add(of.bias, 0, i, g)
				for k := range hidden {
					add(of.weight, i, k, g*d.h[k])
					dh[k] += g * get(of.weight, i, k)
				}
				continue
			}
			for j := range hidden {
				x := d.squashed[i][j]
				add(of.value, 0, j, g*x)
				inner := g * get(of.value, 0, j) * (1 - x*x)
				for k := range hidden {
					add(of.key, j, k, inner*get(of.embedding, i, k))
					add(of.embedding, i, k, inner*get(of.key, j, k))
					add(of.query, j, k, inner*d.h[k])
					dh[k] += inner * get(of.query, j, k)
				}
			}
		}
		before := make([]float64, hidden)
		for j := range hidden {
			i, f, u, o, squashed := d.gates[0][j], d.gates[1][j], d.gates[2][j], d.gates[3][j], math.Tanh(d.c[j])
			down := dc[j] + dh[j]*o*(1-squashed*squashed)
			dz := [4]float64{down * u * i * (1 - i), down * d.c0[j] * f * (1 - f), down * i * (1 - u*u),
				dh[j] * squashed * o * (1 - o)}
			dc[j] = down * f
			for gate, z := range dz {
				r := gate*hidden + j
				add(bih, 0, r, z)
				add(bhh, 0, r, z)
				for k := range hidden {
					add(wih, r, k, z*d.input[k])
					add(whh, r, k, z*d.h0[k])
					before[k] += z * get(whh, r, k)
					if d.fromHead >= 0 {
						add(heads[d.fromHead].embedding, d.fromRow, k, z*get(wih, r, k))
					}
				}
			}
		}
		dh = before
	}
	return logp, entropy, probs
}
