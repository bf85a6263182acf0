package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// zooRow is a row of `ctnas zoo`; what is not known is null.
type zooRow struct {
	Name       string   `json:"name"`
	Row        string   `json:"row"`
	Top1       *float64 `json:"top1"`
	Top5       *float64 `json:"top5"`
	MAdds      *int64   `json:"madds"`
	Published  *int64   `json:"madds_published"`
	Params     *int64   `json:"params"`
	Queries    *int64   `json:"queries"`
	SearchDays *float64 `json:"search_gpu_days"`
	TotalDays  *float64 `json:"total_gpu_days"`
	Source     string   `json:"source"`
	Note       string   `json:"note"`
}

// zooRows counts every network of the table.
func zooRows() ([]zooRow, error) {
	given := func(x float64) *float64 {
		if x == 0 {
			return nil
		}
		return &x
	}
	whole := func(x, unit float64) *int64 {
		if x == 0 {
			return nil
		}
		n := int64(x*unit + 0.5)
		return &n
	}
	var rows []zooRow
	for _, r := range zoo.Rows() {
		row := zooRow{Name: r.Name, Row: r.Paper, Top1: given(r.Top1), Top5: given(r.Top5),
			Published: whole(r.MAdds, 1e6), Queries: whole(r.Queries, 1e3),
			SearchDays: given(r.SearchDays), TotalDays: given(r.TotalDays), Source: r.Source, Note: r.Note}
		if slices.Contains(zoo.Names(), r.Name) {
			net, err := zoo.Open(r.Name)
			if err != nil {
				return nil, err
			}
			cost := net.Cost()
			row.MAdds, row.Params = &cost.MAdds, &cost.Params
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func newZooCommand(a *app) *cobra.Command {
	var check, constants bool
	format := "text"
	cmd := &cobra.Command{
		Use:   "zoo [NAME|ARCH|RUN]",
		Short: "The paper's ImageNet table and its networks",
		Long: `Prints the ImageNet table of the paper beside what the networks that are built here take, or the layers
of one network, which may also be an architecture of a space, or that of a RUN. MAdds are
multiply-accumulates of convolution and linear layers for one image of the published size; parameters include
batch norms.

What a network computes from weights depends on whose they are: ctnas zoo NAME and --constants say which constants
belong to them, and from where.

` + runHelp + `

Networks: ` + strings.Join(zoo.Names(), ", ") + `.`,
		Example: `  ctnas zoo
  ctnas zoo mobilenetv3_large_1.0
  ctnas zoo runs/cell
  ctnas zoo --check
  ctnas zoo --constants --format markdown
  ctnas zoo --format markdown`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return zoo.Names(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if a.json {
				format = "json"
			}
			if constants {
				return a.printConstants(args, format)
			}
			if check {
				return a.checkZoo(args)
			}
			if len(args) > 0 {
				return a.printLayers(args[0], format)
			}
			rows, err := zooRows()
			if err != nil {
				return err
			}
			return a.printZoo(rows, format)
		},
	}
	l := setting.New()
	l.Group("Zoo")
	l.Bool(&check, "check", "compare all counts with those of an independent counter")
	l.Bool(&constants, "constants", "what no file of weights carries, by whose weights they are: batch norm's "+
		"epsilon, padding, "+
		"images and the like")
	l.Text(&format, "format", "how the table is written").OneOf("text", "json", "csv", "markdown")
	a.bind(cmd, l)
	return cmd
}

// checkZoo checks the counts of some networks, or of all.
func (a *app) checkZoo(names []string) error {
	if len(names) == 0 {
		names = zoo.Names()
	}
	wrong := 0
	for _, name := range names {
		c, err := zoo.Check(name)
		switch {
		case c == zoo.Count{}:
			return usageError{err}
		case err != nil:
			fmt.Fprintf(a.stderr, "%v\n", err)
			wrong++
		default:
			fmt.Fprintf(a.stdout, "%s: %d MAdds, %d parameters\n", name, c.MAdds, c.Params)
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d networks differ from what was counted independently", wrong, len(names))
	}
	fmt.Fprintf(a.stdout, "%d networks agree with the independent counter\n", len(names))
	return nil
}

func (a *app) printZoo(rows []zooRow, format string) error {
	if format == "json" {
		return a.printJSON(rows)
	}
	table := grid{head: []string{"NETWORK", "PAPER", "TOP-1", "TOP-5", "MADDS PUBLISHED", "MADDS", "PARAMETERS",
		"QUERIES", "SEARCH GPU-DAYS", "TOTAL GPU-DAYS"}}
	if format == "csv" {
		table.head = []string{"name", "row", "top1", "top5", "madds_published", "madds", "params", "queries",
			"search_gpu_days", "total_gpu_days"}
	}
	var notes []string
	for _, r := range rows {
		line := []string{r.Name, r.Row, plain(r.Top1), plain(r.Top5), plain(r.Published), plain(r.MAdds),
			plain(r.Params), plain(r.Queries),
			plain(r.SearchDays), plain(r.TotalDays)}
		if format != "csv" {
			line[2], line[3] = oneDigit(r.Top1), oneDigit(r.Top5)
			line[4], line[5], line[6] = millions(r.Published, -1), millions(r.MAdds, 1), millions(r.Params, 3)
		}
		switch {
		case format != "text":
			line = append(line, r.Source, r.Note)
		case r.Note != "":
			k := slices.Index(notes, r.Note)
			if k < 0 {
				k = len(notes)
				notes = append(notes, r.Note)
			}
			line = append(line, fmt.Sprintf("[%d]", k+1))
		}
		table.rows = append(table.rows, line)
	}
	if format != "text" {
		table.head = append(table.head, "source", "note")
		return table.print(a.stdout, format)
	}
	table.head = append(table.head, "NOTE")
	if err := table.print(a.stdout, format); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	for i, n := range notes {
		fmt.Fprintf(a.stdout, "[%d] %s\n", i+1, n)
	}
	return nil
}

// plain is a number, or nothing where it is not known.
func plain[T int64 | float64](x *T) string {
	if x == nil {
		return ""
	}
	return strconv.FormatFloat(float64(*x), 'f', -1, 64)
}

func oneDigit(x *float64) string {
	if x == nil {
		return ""
	}
	return strconv.FormatFloat(*x, 'f', 1, 64)
}

// millions is a number as 582.2M, with some digits after the point, -1 for those that it has.
func millions(x *int64, digits int) string {
	if x == nil {
		return ""
	}
	return strconv.FormatFloat(float64(*x)/1e6, 'f', digits, 64) + "M"
}

// layerRow is a layer of a network: an operation with the batch norm and the activation that follow it.
type layerRow struct {
	Name      string `json:"name"`
	Operation string `json:"operation"`
	Output    string `json:"output"`
	MAdds     int64  `json:"madds"`
	Params    int64  `json:"params"`
}

func layerRows(net *nn.Network) []layerRow {
	var rows []layerRow
	last := 0 // the node that the last row ends with
	for i, node := range net.Nodes[1:] {
		i++
		cost := net.NodeCost(i)
		follows := len(rows) > 0 && node.In[0] == last
		switch node.Op.(type) {
		case nn.BatchNorm, nn.Activation:
		default:
			follows = false
		}
		last = i
		if follows {
			r := &rows[len(rows)-1]
			r.Operation += ", " + node.Op.String()
			r.Params += cost.Params
			continue
		}
		rows = append(rows, layerRow{node.Name, describe(node.Op, net.Inputs(i)[0]), node.Shape.String(), cost.MAdds,
			cost.Params})
	}
	return rows
}

// describe is an operation with what its own name leaves out.
func describe(op nn.Op, in nn.Shape) string {
	words := op.String()
	stride := nn.Square(1)
	switch op := op.(type) {
	case nn.Conv:
		stride = op.Stride
		switch {
		case op.Groups == in.C && op.Groups == op.Out && in.C > 1:
			words = op.Kernel.String() + " depthwise convolution"
		case op.Groups > 1:
			words = fmt.Sprintf("%s in %d groups", words, op.Groups)
		}
		if op.Dilation > 1 {
			words += fmt.Sprintf(" dilated %d", op.Dilation)
		}
		if op.Bias {
			words += " with bias"
		}
	case nn.MaxPool:
		stride = op.Stride
	case nn.AvgPool:
		stride = op.Stride
	}
	if stride != nn.Square(1) {
		words += " by " + stride.String()
	}
	return words
}

// constantsRow is a network as the weights of one program want it.
type constantsRow struct {
	Network   string        `json:"network"`
	Origin    zoo.Origin    `json:"origin"`
	Tag       string        `json:"tag"` // of published weights that want other images than the others of the program
	Model     string        `json:"model"`
	Constants zoo.Constants `json:"constants"`
	Source    string        `json:"source"`
}

func constantsOf(net *nn.Network) []constantsRow {
	var rows []constantsRow
	for _, v := range zoo.Variants(net) {
		rows = append(rows, constantsRow{net.Name, v.Origin, v.Tag, cmp.Or(v.Model, net.Name), v.Constants, v.Source})
	}
	return rows
}

// line is the row's words.
func (r constantsRow) line() []string {
	whole := func(x float64) string { return strconv.FormatFloat(x, 'g', 10, 64) }
	images := "as the set of images says"
	if i := r.Constants.Images; i != nil {
		images = fmt.Sprintf("%d of %d, %s, %s", i.Side, i.Resized(i.Side), i.Interpolation, i.Channels)
		for k, name := range []string{"mean", "std"} {
			v := [][3]float32{i.Mean, i.Std}[k]
			images += fmt.Sprintf(", %s %.4g %.4g %.4g", name, v[0], v[1], v[2])
		}
	}
	from := zoo.Variant{Origin: r.Origin, Tag: r.Tag}.String()
	return []string{r.Network, from, r.Model, whole(r.Constants.Eps), whole(r.Constants.Momentum),
		r.Constants.Padding, whole(r.Constants.Dropout), images, r.Source}
}

func constantsGrid(rows []constantsRow, format string) grid {
	table := grid{head: []string{"NETWORK", "WEIGHTS FROM", "MODEL", "BN EPSILON", "BN MOMENTUM", "STRIDED PADDING",
		"DROPOUT", "IMAGES", "SOURCE"}}
	if format == "csv" {
		table.head = []string{"network", "weights_from", "model", "batch_norm_eps", "batch_norm_momentum",
			"strided_padding", "dropout", "images", "source"}
	}
	for _, r := range rows {
		table.rows = append(table.rows, r.line())
	}
	return table
}

// printConstants prints the constants of some networks, or of all.
func (a *app) printConstants(names []string, format string) error {
	if len(names) == 0 {
		names = zoo.Names()
	}
	var rows []constantsRow
	for _, name := range names {
		_, net, err := zooNetwork(name)
		if err != nil {
			return err
		}
		rows = append(rows, constantsOf(net)...)
	}
	if format == "json" {
		return a.printJSON(rows)
	}
	return constantsGrid(rows, format).print(a.stdout, format)
}

// zooNetwork is what an argument names, or holds, with its name in words.
func zooNetwork(text string) (string, *nn.Network, error) {
	c, err := choose(text)
	if err != nil {
		return "", nil, err
	}
	net, err := buildNetwork(c.Arch, c.Size, c.Size.Resolution, c.Classes)
	if err != nil {
		return "", nil, usageError{err}
	}
	return c.Arch, net, nil
}

func (a *app) printLayers(name, format string) error {
	name, net, err := zooNetwork(name)
	if err != nil {
		return err
	}
	rows, cost := layerRows(net), net.Cost()
	if format == "json" {
		return a.printJSON(struct {
			Name      string         `json:"name"`
			Input     string         `json:"input"`
			MAdds     int64          `json:"madds"`
			Params    int64          `json:"params"`
			Constants []constantsRow `json:"constants"` // by whose weights they are
			Layers    []layerRow     `json:"layers"`
		}{name, net.Input().String(), cost.MAdds, cost.Params, constantsOf(net), rows})
	}
	table := grid{head: []string{"LAYER", "OPERATION", "OUTPUT", "MADDS", "PARAMETERS"}}
	if format == "csv" {
		table.head = []string{"name", "operation", "output", "madds", "params"}
	}
	for _, r := range rows {
		table.rows = append(table.rows, []string{r.Name, r.Operation, r.Output, strconv.FormatInt(r.MAdds, 10),
			strconv.FormatInt(r.Params, 10)})
	}
	if format == "text" {
		fmt.Fprintf(a.stdout, "%s over %s: %d MAdds, %d parameters\n", name, net.Input(), cost.MAdds, cost.Params)
		rows := zoo.Rows()
		if i := slices.IndexFunc(rows, func(r zoo.Row) bool { return r.Name == name }); i >= 0 {
			fmt.Fprintf(a.stdout, "source: %s\n", rows[i].Source)
			if note := rows[i].Note; note != "" {
				fmt.Fprintf(a.stdout, "note: %s\n", note)
			}
		}
		fmt.Fprintf(a.stdout, "\nWhat no file of weights carries, by whose weights they are (--weights-from):\n\n")
		constants := constantsGrid(constantsOf(net), format)
		for i, line := range constants.rows {
			constants.rows[i] = line[1:]
		}
		constants.head = constants.head[1:]
		if err := constants.print(a.stdout, format); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout)
	}
	return table.print(a.stdout, format)
}

// grid is a table of words.
type grid struct {
	head []string
	rows [][]string
}

func (g grid) print(to io.Writer, format string) error {
	lines := append([][]string{g.head}, g.rows...)
	switch format {
	case "csv":
		w := csv.NewWriter(to)
		return w.WriteAll(lines)
	case "markdown":
		for i, line := range lines {
			if i == 1 {
				fmt.Fprintln(to, "|"+strings.Repeat("---|", len(g.head)))
			}
			fmt.Fprintln(to, "| "+strings.Join(line, " | ")+" |")
		}
		return nil
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}
