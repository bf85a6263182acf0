package report

import (
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/internal/visible"
	"github.com/ctnas/ctnas/search/space"
)

// Draw returns a stand-alone SVG picture of an architecture: the network, layer by layer, where that is a chain, and
// otherwise the graph that the comparator reads.
func Draw(sp space.Space, a space.Arch, s Style) (string, error) {
	if chain, ok := a.(space.Layered); ok {
		if layers := chain.Layers(); layers != nil {
			return drawLayers(layers, kindsOf(sp), s), nil
		}
	}
	return DrawGraph(a.Graph(), sp.Alphabet(), s)
}

// kindsOf are what the colours of a space's layers stand for; nil where its architectures are drawn as graphs.
func kindsOf(sp space.Space) []string {
	if layered, ok := sp.(space.LayeredSpace); ok {
		return layered.Kinds()
	}
	return nil
}

// colorsOf says what the colours of a space's drawings stand for.
func colorsOf(sp space.Space) (list []opView) {
	if kinds := kindsOf(sp); kinds != nil {
		for i, kind := range kinds {
			list = append(list, opView{kind, opColors[i%len(opColors)]})
		}
		return append(list, opView{"no choice", endColor})
	}
	for op, name := range sp.Alphabet() {
		list = append(list, opView{name, opColor(uint16(op), sp.Alphabet())})
	}
	return list
}

// Sizes of a drawn chain, in pixels.
const (
	layerHeight, layerGap, layerWidth, stageGap = 24.0, 4.0, 190.0, 8.0
	stageWidth, factsWidth                      = 66.0, 224.0
	squareSide, squareStep                      = 11.0, 14.0
)

// drawLayers draws a chain of layers from top to bottom, each in the colour of its kind, with what is known of it
// beside. A compact one has a row of squares a stage.
func drawLayers(layers []space.Layer, kinds []string, s Style) string {
	if s.Compact {
		return drawSquares(layers, kinds)
	}
	var boxes strings.Builder
	y, last := 1.0, ""
	top := y
	for i, x := range layers {
		x.Stage, x.Name = visible.String(x.Stage), visible.String(x.Name)
		if i > 0 && x.Stage != last {
			y += stageGap
		}
		if i > 0 {
			fmt.Fprintf(&boxes, `<path d="M%.0f %.1fV%.1f" stroke="#8b939f" stroke-width="1.6"/>`,
				stageWidth+layerWidth/2, top+layerHeight, y)
		}
		if x.Stage != "" && x.Stage != last {
			name := x.Stage
			if _, err := strconv.Atoi(name); err == nil {
				name = "stage " + name
			}
			fmt.Fprintf(&boxes,
				`<text x="%.0f" y="%.1f" text-anchor="end" fill="currentColor" opacity=".75">%s</text>`,
				stageWidth-8, y+16, html.EscapeString(name))
		}
		fill := layerColor(x, kinds)
		fmt.Fprintf(&boxes, `<g><title>%s</title>`+
			`<rect x="%.0f" y="%.1f" width="%.0f" height="%.0f" rx="5" fill="%s"/>`+
			`<text x="%.0f" y="%.1f" text-anchor="middle" fill="%s">%s</text></g>`, html.EscapeString(layerTitle(x)),
			stageWidth, y, layerWidth, layerHeight, fill, stageWidth+layerWidth/2, y+16.5, inkOn(fill),
			html.EscapeString(layerName(x)))
		fmt.Fprintf(&boxes, `<text x="%.0f" y="%.1f" fill="currentColor" opacity=".75">%s</text>`+"\n",
			stageWidth+layerWidth+10, y+16, html.EscapeString(layerFacts(x)))
		top, last = y, x.Stage
		y += layerHeight + layerGap
	}
	w, h := stageWidth+layerWidth+factsWidth, y
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" class="graph" viewBox="0 0 %.0f %.0f" width="%.0f" `+
		`height="%.0f" font-family="system-ui,sans-serif" font-size="12.5" role="img">`+"\n%s</svg>\n", w, h, w, h,
		boxes.String())
}

func drawSquares(layers []space.Layer, kinds []string) string {
	var squares strings.Builder
	row, column, most := 0, 0, 1
	for i, x := range layers {
		if i > 0 && (x.Stage == "" || x.Stage != layers[i-1].Stage) {
			row, column = row+1, 0
		}
		fmt.Fprintf(&squares, `<rect x="%.0f" y="%.0f" width="%.0f" height="%.0f" rx="2" fill="%s">`+
			`<title>%s</title></rect>`, squareStep*float64(column), squareStep*float64(row), squareSide, squareSide,
			layerColor(x, kinds),
			html.EscapeString(visible.String(layerTitle(x))))
		column++
		most = max(most, column)
	}
	w, h := squareStep*float64(most), squareStep*float64(row+1)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" class="graph" viewBox="0 0 %.0f %.0f" width="%.0f" `+
		`height="%.0f" role="img">%s</svg>`+"\n", w, h, w, h, squares.String())
}

func layerColor(x space.Layer, kinds []string) string {
	if i := slices.Index(kinds, x.Kind); i >= 0 && x.Kind != "" {
		return opColors[i%len(opColors)]
	}
	return endColor
}

// layerName is what stands in a layer's box.
func layerName(x space.Layer) string {
	switch {
	case x.Kernel > 0 && x.Kind == fmt.Sprintf("kernel %d", x.Kernel):
		return fmt.Sprintf("%d × %d, expansion %.3g", x.Kernel, x.Kernel, x.Expansion)
	case x.Kernel > 0 && x.Kind == "" && x.Name == "stem":
		return fmt.Sprintf("%s, %d × %d", x.Name, x.Kernel, x.Kernel)
	}
	return label(x.Name)
}

// layerFacts are what stands beside a layer's box.
func layerFacts(x space.Layer) string {
	switch {
	case x.Channels == 0:
		return ""
	case x.Side <= 1: // behind the pooling
		return grouped(x.Channels) + " outputs"
	}
	text := fmt.Sprintf("%s channels, %d × %d", grouped(x.Channels), x.Side, x.Side)
	if x.Stride > 1 {
		text += fmt.Sprintf(", stride %d", x.Stride)
	}
	return text
}

// layerTitle is all that is known of a layer.
func layerTitle(x space.Layer) string {
	text := x.Name
	if x.Stage != "" {
		text = x.Stage + ": " + text
	}
	if x.Kernel > 0 {
		text += fmt.Sprintf(", kernel %d", x.Kernel)
	}
	if x.Expansion > 0 {
		text += fmt.Sprintf(", expansion %.3g", x.Expansion)
	}
	if facts := layerFacts(x); facts != "" {
		text += ", " + facts
	}
	return text
}
