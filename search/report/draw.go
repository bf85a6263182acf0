package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/visible"
	"github.com/ctnas/ctnas/search/space"
)

// Style says how a graph is drawn.
type Style struct {
	Compact bool // small squares without text, for lists
}

// item is a node of the layered layout: a node of the graph, or a bend of an edge that crosses a layer (node is -1).
type item struct {
	node, rank     int
	x, y, width    float64
	before, behind []*item // neighbours in the rank above and in the rank below
}

func opColor(op uint16, alphabet []string) string {
	if name := alphabet[op]; name == "input" || name == "output" {
		return endColor
	}
	interior := 0
	for _, name := range alphabet[:op] {
		if name != "input" && name != "output" {
			interior++
		}
	}
	return opColors[interior%len(opColors)]
}

// label shortens an operation's name to what tells it apart.
func label(name string) string {
	name = strings.TrimSuffix(name, "-bn-relu")
	return strings.NewReplacer("1x1", " 1×1", "3x3", " 3×3", "5x5", " 5×5", "7x7", " 7×7").Replace(name)
}

// DrawGraph returns a stand-alone SVG picture of an architecture, input at the top: nodes stand in layers by their
// longest path from the input, in the order of the layers' barycentres (Sugiyama, Tagawa, Toda, 1981). A graph that
// names an operation or a node that does not exist is an error.
func DrawGraph(g space.Graph, alphabet []string, s Style) (string, error) {
	alphabet = slices.Clone(alphabet)
	for i, name := range alphabet {
		alphabet[i] = visible.String(name)
	}
	for v, op := range g.Ops {
		if int(op) >= len(alphabet) {
			return "", fmt.Errorf("node %d has operation %d, the alphabet has %d", v, op, len(alphabet))
		}
	}
	for _, e := range g.Edges {
		if e[0] >= e[1] || int(e[1]) >= len(g.Ops) {
			return "", fmt.Errorf("edge %d-%d in a graph of %d nodes", e[0], e[1], len(g.Ops))
		}
	}
	height, step, gap, charWidth, padding := 34.0, 66.0, 22.0, 8.2, 26.0
	if s.Compact {
		height, step, gap, charWidth, padding = 12, 21, 7, 0, 12
	}
	width := func(v int) float64 { return padding + charWidth*float64(len([]rune(label(alphabet[g.Ops[v]])))) }
	layers, paths := layout(g, width, gap)
	place(layers, gap)

	left, right := math.Inf(1), math.Inf(-1)
	for r, layer := range layers {
		for _, it := range layer {
			it.y = height/2 + 2 + step*float64(r)
			left, right = min(left, it.x-it.width/2), max(right, it.x+it.width/2)
		}
	}
	if len(g.Ops) == 0 {
		left, right = 0, 1
	}
	var b strings.Builder
	w, h := right-left+8, step*float64(max(len(layers)-1, 0))+height+4
	fmt.Fprintf(&b,
		`<svg xmlns="http://www.w3.org/2000/svg" class="graph" viewBox="%.1f 0 %.1f %.1f" width="%.0f" height="%.0f" `+
			`font-family="system-ui,sans-serif" font-size="13" role="img">`+"\n", left-4, w, h, w, h)
	line, head := 1.6, 4.5
	if s.Compact {
		line, head = 1, 0
	}
	for _, path := range paths {
		drawEdge(&b, path, height, line, head)
	}
	for _, layer := range layers {
		for _, it := range layer {
			if it.node < 0 {
				continue
			}
			op := g.Ops[it.node]
			fmt.Fprintf(&b,
				`<g><title>%d: %s</title><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%.0f" fill="%s"/>`,
				it.node, html.EscapeString(alphabet[op]), it.x-it.width/2, it.y-height/2, it.width, height, height/5,
				opColor(op, alphabet))
			if !s.Compact {
				fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle" fill="%s">%s</text>`, it.x, it.y+4.5,
					inkOn(opColor(op, alphabet)), html.EscapeString(label(alphabet[op])))
			}
			b.WriteString("</g>\n")
		}
	}
	b.WriteString("</svg>\n")
	return b.String(), nil
}

// layout puts the nodes and the bends of long edges into ordered layers; a path holds the items an edge runs through.
func layout(g space.Graph, width func(v int) float64, gap float64) (layers [][]*item, paths [][]*item) {
	rank := make([]int, len(g.Ops))
	for range g.Ops { // edges need not be sorted: at most one pass a node settles the longest paths
		for _, e := range g.Edges {
			rank[e[1]] = max(rank[e[1]], rank[e[0]]+1)
		}
	}
	nodes := make([]*item, len(g.Ops))
	add := func(it *item) *item {
		for len(layers) <= it.rank {
			layers = append(layers, nil)
		}
		layers[it.rank] = append(layers[it.rank], it)
		return it
	}
	for v := range g.Ops {
		nodes[v] = add(&item{node: v, rank: rank[v], width: width(v)})
	}
	for _, e := range g.Edges {
		path := []*item{nodes[e[0]]}
		for r := rank[e[0]] + 1; r < rank[e[1]]; r++ {
			path = append(path, add(&item{node: -1, rank: r, width: gap / 2}))
		}
		path = append(path, nodes[e[1]])
		for i := 1; i < len(path); i++ {
			path[i-1].behind = append(path[i-1].behind, path[i])
			path[i].before = append(path[i].before, path[i-1])
		}
		paths = append(paths, path)
	}
	best, fewest := snapshot(layers), crossings(layers)
	for sweep := range 12 {
		for i := range layers {
			r := i
			if sweep%2 == 1 {
				r = len(layers) - 1 - i
			}
			order(layers, r, sweep%2 == 0)
		}
		if c := crossings(layers); c < fewest {
			best, fewest = snapshot(layers), c
		}
	}
	return best, paths
}

func snapshot(layers [][]*item) [][]*item {
	kept := make([][]*item, len(layers))
	for r := range layers {
		kept[r] = slices.Clone(layers[r])
	}
	return kept
}

// order sorts layer r by the mean position of its neighbours in the layer above (down) or below.
func order(layers [][]*item, r int, down bool) {
	position := map[*item]float64{}
	for _, layer := range layers {
		for i, it := range layer {
			position[it] = float64(i) - float64(len(layer)-1)/2
		}
	}
	key := func(it *item) float64 {
		near := it.before
		if !down {
			near = it.behind
		}
		if len(near) == 0 {
			return position[it]
		}
		sum := 0.0
		for _, other := range near {
			sum += position[other]
		}
		return sum / float64(len(near))
	}
	keys := map[*item]float64{}
	for _, it := range layers[r] {
		keys[it] = key(it)
	}
	slices.SortStableFunc(layers[r], func(a, b *item) int {
		switch {
		case keys[a] < keys[b]:
			return -1
		case keys[a] > keys[b]:
			return 1
		}
		return 0
	})
}

func crossings(layers [][]*item) int {
	count := 0
	for r := 0; r+1 < len(layers); r++ {
		position := map[*item]int{}
		for i, it := range layers[r+1] {
			position[it] = i
		}
		for i, a := range layers[r] {
			for _, b := range layers[r][i+1:] {
				for _, x := range a.behind {
					for _, y := range b.behind {
						if position[x] > position[y] {
							count++
						}
					}
				}
			}
		}
	}
	return count
}

// place gives the items of each layer the x nearest to the mean of their neighbours that keeps them apart.
func place(layers [][]*item, gap float64) {
	for _, layer := range layers {
		spread(layer, make([]float64, len(layer)), gap)
	}
	for range 100 {
		for _, layer := range layers {
			want := make([]float64, len(layer))
			for i, it := range layer {
				sum, weight := 0.0, 0.0
				for _, other := range append(slices.Clone(it.before), it.behind...) {
					// Straight lines matter most where an edge runs through bends (Gansner et al., 1993, section 4).
					w := 1.0
					if it.node < 0 {
						w *= 3
					}
					if other.node < 0 {
						w *= 3
					}
					sum, weight = sum+w*other.x, weight+w
				}
				want[i] = it.x
				if weight > 0 {
					want[i] = sum / weight
				}
			}
			spread(layer, want, gap)
		}
	}
}

// spread moves the items as near to want as their order and the gap allow: least squares under a minimum distance,
// which is isotonic regression (pool adjacent violators) once the distances are subtracted.
func spread(layer []*item, want []float64, gap float64) {
	type block struct{ sum, n float64 }
	var blocks []block
	offset := make([]float64, len(layer))
	for i, it := range layer {
		if i > 0 {
			offset[i] = offset[i-1] + (layer[i-1].width+it.width)/2 + gap
		}
		blocks = append(blocks, block{want[i] - offset[i], 1})
		for n := len(blocks); n > 1 && blocks[n-2].sum/blocks[n-2].n > blocks[n-1].sum/blocks[n-1].n; n-- {
			blocks[n-2].sum += blocks[n-1].sum
			blocks[n-2].n += blocks[n-1].n
			blocks = blocks[:n-1]
		}
	}
	i := 0
	for _, b := range blocks {
		for range int(b.n) {
			layer[i].x = b.sum/b.n + offset[i]
			i++
		}
	}
}

// port is where the edge between it and other meets it: the edges of a node share its side in the order they come from.
func port(it, other *item, side []*item, height float64, top bool) (x, y float64) {
	y = it.y + height/2
	if top {
		y = it.y - height/2
	}
	place := 0
	for _, o := range side {
		if o != other && (o.x < other.x || o.x == other.x && o.y < other.y) {
			place++
		}
	}
	step := min(9, it.width*0.7/float64(len(side)))
	return it.x + step*(float64(place)-float64(len(side)-1)/2), y
}

// drawEdge draws a smooth curve, vertical at its ends, through the bends.
func drawEdge(b *strings.Builder, path []*item, height, line, head float64) {
	last := len(path) - 1
	x, y := make([]float64, last+1), make([]float64, last+1)
	for i, it := range path {
		x[i], y[i] = it.x, it.y
	}
	x[0], y[0] = port(path[0], path[1], path[0].behind, height, false)
	x[last], y[last] = port(path[last], path[last-1], path[last].before, height, true)
	tip := y[last]
	y[last] -= head
	slope := func(i int) float64 { // dx/dy; none where the curve turns, so that it never overshoots
		if i == 0 || i == last || (x[i]-x[i-1])*(x[i+1]-x[i]) <= 0 {
			return 0
		}
		return (x[i+1] - x[i-1]) / (y[i+1] - y[i-1])
	}
	fmt.Fprintf(b, `<path d="M%.1f %.1f`, x[0], y[0])
	for i := range last {
		third := (y[i+1] - y[i]) * 0.4
		fmt.Fprintf(b, "C%.1f %.1f %.1f %.1f %.1f %.1f", x[i]+slope(i)*third, y[i]+third, x[i+1]-slope(i+1)*third,
			y[i+1]-third, x[i+1], y[i+1])
	}
	fmt.Fprintf(b, `" fill="none" stroke="#8b939f" stroke-width="%.1f"/>`, line)
	if head > 0 {
		fmt.Fprintf(b, `<path d="M%.1f %.1fl%.1f %.1fh%.1fz" fill="#8b939f"/>`, x[last], tip, -head*0.8,
			-head*1.6, head*1.6)
	}
	b.WriteString("\n")
}
