package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

func newSpaceCommand(a *app) *cobra.Command {
	return group("space", "Look at search spaces and their architectures", `  ctnas space info nasbench101
  ctnas space show nasbench101 nasbench101:best --svg > best.svg`,
		newSpaceInfoCommand(a), newSpaceSampleCommand(a), newSpaceShowCommand(a), newSpaceEnumerateCommand(a))
}

// archRow is an architecture with its cost.
type archRow struct {
	Arch   string `json:"arch"`
	Hash   string `json:"hash"`
	MAdds  *int64 `json:"madds"` // null where neither the space nor a table says it
	Params *int64 `json:"params"`
}

func rowOf(x space.Arch) archRow {
	cost := x.Cost()
	return archRow{x.String(), x.Hash(), space.Known(cost.MAdds), space.Known(cost.Params)}
}

const archHeader = "ARCHITECTURE\tHASH\tMADDS\tPARAMS"

func (r archRow) line() string {
	return fmt.Sprintf("%s\t%s\t%s\t%s", r.Arch, r.Hash, count(r.MAdds), count(r.Params))
}

const defaultSpace = "nasbench101"

// openSpace is space.Open for a name from the command line.
func openSpace(name string) (space.Space, error) {
	s, err := space.Open(name)
	if err != nil {
		return nil, usageError{err}
	}
	return s, nil
}

// spaceNames completes the first argument.
func spaceNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return space.Names(), cobra.ShellCompDirectiveNoFileComp
}

func newSpaceInfoCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "info SPACE",
		Short:             "Describe a search space",
		Example:           `  ctnas space info nasbench101`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: spaceNames,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := openSpace(args[0])
			if err != nil {
				return err
			}
			type head struct {
				Name    string `json:"name"`
				Choices int    `json:"choices"`
			}
			_, enumerable := s.(space.Enumerable)
			n, exact := space.Count(s)
			info := struct {
				Space         string   `json:"space"`
				Architectures *big.Int `json:"architectures"` // at most, where they are not counted
				Exact         bool     `json:"counted"`
				Operations    []string `json:"operations"`
				MaxNodes      int      `json:"max_nodes"`
				Decisions     int      `json:"max_decisions"`
				Heads         []head   `json:"heads"`
				Enumerable    bool     `json:"enumerable"`
				Encoder       string   `json:"encoder"`
				// of a space from a file: whether texts of one network are one architecture
				Isomorphic *bool `json:"isomorphic_are_one,omitempty"`
			}{s.Name(), n, exact, s.Alphabet(), s.MaxNodes(), s.Grammar().MaxSteps(), nil, enumerable,
				space.EncoderOf(s).String(), nil}
			if f := space.FileOf(s); f != nil {
				one := f.Isomorphic()
				info.Isomorphic = &one
			}
			for _, h := range s.Grammar().Heads {
				info.Heads = append(info.Heads, head{h.Name, h.Choices})
			}
			if a.json {
				return a.printJSON(info)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			if exact {
				fmt.Fprintf(w, "architectures\t%v\n", n)
			} else {
				fmt.Fprintf(w, "architectures\tat most %v: several sequences of decisions may be one architecture\n", n)
			}
			fmt.Fprintf(w, "space\t%s\n", info.Space)
			fmt.Fprintf(w, "operations\t%s\n", strings.Join(info.Operations, " "))
			fmt.Fprintf(w, "nodes\tat most %d\n", info.MaxNodes)
			fmt.Fprintf(w, "decisions\tat most %d\n", info.Decisions)
			for _, h := range info.Heads {
				fmt.Fprintf(w, "  %s\t%d choices\n", h.Name, h.Choices)
			}
			fmt.Fprintf(w, "can be listed\t%t\n", info.Enumerable)
			fmt.Fprintf(w, "the comparator reads\t%s\n", info.Encoder)
			if info.Isomorphic != nil {
				fmt.Fprintf(w, "isomorphic cells are one\t%t\n", *info.Isomorphic)
			}
			return w.Flush()
		},
	}
}

func newSpaceSampleCommand(a *app) *cobra.Command {
	n := 1
	cmd := &cobra.Command{
		Use:   "sample SPACE",
		Short: "Draw architectures at random, uniformly over the distinct ones",
		Example: `  ctnas space sample nasbench101 -n 5
  ctnas space sample nasbench101 -n 100 --seed 7 --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: spaceNames,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := openSpace(args[0])
			if err != nil {
				return err
			}
			stream := philox.New(a.seed, philox.PurposeSample, 0)
			rows := make([]archRow, n)
			for i := range rows {
				rows[i] = rowOf(s.Sample(stream))
			}
			if a.json {
				return a.printJSON(rows)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, archHeader)
			for _, r := range rows {
				fmt.Fprintln(w, r.line())
			}
			return w.Flush()
		},
	}
	l := setting.New()
	l.Group("Sample")
	l.Int(&n, "count", "architectures", "how many architectures", 1, 1<<24).Short("n")
	a.bind(cmd, l)
	return cmd
}

func newSpaceShowCommand(a *app) *cobra.Command {
	var svg bool
	cmd := &cobra.Command{
		Use:   "show SPACE ARCH",
		Short: "Show one architecture: its graph and its cost",
		Example: `  ctnas space show nasbench101 nasbench101:best
  ctnas space show nasbench101 nasbench101:best --svg > best.svg`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: spaceNames,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := openSpace(args[0])
			if err != nil {
				return err
			}
			x, err := s.Parse(args[1])
			if err != nil {
				return usageError{err}
			}
			g := x.Graph()
			if svg {
				picture, err := report.Draw(s, x, report.Style{})
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(a.stdout, picture)
				return err
			}
			names := make([]string, len(g.Ops))
			into := make([][]int, len(g.Ops))
			edges := make([][2]int, len(g.Edges))
			for v, op := range g.Ops {
				names[v] = s.Alphabet()[op]
			}
			for i, e := range g.Edges {
				edges[i] = [2]int{int(e[0]), int(e[1])}
				into[e[1]] = append(into[e[1]], int(e[0]))
			}
			row := rowOf(x)
			if a.json {
				return a.printJSON(struct {
					archRow
					Operations []string `json:"operations"`
					Edges      [][2]int `json:"edges"`
				}{row, names, edges})
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "architecture\t%s\nhash\t%s\nMAdds\t%s\nparameters\t%s\n\n", row.Arch, row.Hash,
				count(row.MAdds), count(row.Params))
			fmt.Fprintln(w, "NODE\tOPERATION\tINPUTS")
			for v, name := range names {
				fmt.Fprintf(w, "%d\t%s\t%s\n", v, name, strings.Trim(fmt.Sprint(into[v]), "[]"))
			}
			return w.Flush()
		},
	}
	l := setting.New()
	l.Group("Show")
	l.Bool(&svg, "svg", "write a drawing to stdout")
	a.bind(cmd, l)
	return cmd
}

func newSpaceEnumerateCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "enumerate SPACE",
		Short: "List every architecture of a space, in the order of ascending hash",
		Example: `  ctnas space enumerate nasbench101 > cells.txt
  ctnas space enumerate nasbench101 --json | jq length`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: spaceNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openSpace(args[0])
			if err != nil {
				return err
			}
			all, ok := s.(space.Enumerable)
			if !ok {
				return fmt.Errorf("space %s is too large to list", s.Name())
			}
			update, finish := a.progress("enumerate")
			list, err := all.All(cmd.Context(), update)
			finish()
			if err != nil {
				return err
			}
			w := bufio.NewWriter(a.stdout)
			if a.json { // one row at a time: the whole document may be large
				fmt.Fprint(w, "[")
				for i, x := range list {
					row, err := json.Marshal(rowOf(x))
					if err != nil {
						return err
					}
					fmt.Fprintf(w, "%s\n%s", strings.Repeat(",", min(i, 1)), row)
				}
				fmt.Fprintln(w, "\n]")
				return w.Flush()
			}
			fmt.Fprintln(w, archHeader)
			for _, x := range list {
				fmt.Fprintln(w, rowOf(x).line())
			}
			return w.Flush()
		},
	}
}
