package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/trainer/data"
)

func newDataCommand(a *app) *cobra.Command {
	return group("data", "Look at sets of images", "  ctnas data check imagenet:/data/imagenet", newDataCheckCommand(a))
}

func newDataCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check SET",
		Short: "Read all images of a set and tell what is there",
		Long: `Reads and decodes every image of a set, as training would, and tells what there is: images, classes and
sizes of each part, formats, images of equal content (test images among those for training make their
accuracy too good), what lies there and is not read, and which images cannot be read. Exits with 1 if there
are such.

SET is what --data of ` + "`ctnas train`" + ` takes: ` + imageSets,
		Example: `  ctnas data check imagenet:/data/imagenet
  ctnas data check 'shards:/data/train-{000..099}.tar?test=/data/val.tar' --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, finish := a.imageOptions()
			finish()
			o.Warn = nil // the report says it
			d, err := data.Open(args[0], o)
			if err != nil {
				return err
			}
			defer func() { _ = d.Close() }()
			update, finish := a.progress("read images")
			c, err := d.Check(cmd.Context(), update)
			finish()
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(c)
			} else {
				err = a.printChecked(c)
			}
			if n := len(c.Damaged); err == nil && n > 0 {
				err = fmt.Errorf("%d images cannot be read; --on-corrupt skip of train and eval leaves them out", n)
			}
			return err
		},
	}
}

// damagedShown is how many images that cannot be read are printed for people; --json lists all.
const damagedShown = 20

// printChecked is what a set holds, for people.
func (a *app) printChecked(c *data.Checked) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "set\t%s, %d classes\n", c.Data, c.Classes)
	for _, s := range c.Splits {
		formats := []string{}
		for _, name := range slices.Sorted(maps.Keys(s.Formats)) {
			formats = append(formats, fmt.Sprintf("%d %s", s.Formats[name], name))
		}
		fmt.Fprintf(w, "%s\t%d images: %s\n", s.Name, s.Images, strings.Join(formats, ", "))
		fmt.Fprintf(w, "\t%d classes, of %d (%s) to %d images (%s)", s.Classes, s.Smallest.Images, s.Smallest.Name,
			s.Largest.Images, s.Largest.Name)
		if none := c.Classes - s.Classes; none > 0 {
			fmt.Fprintf(w, "; %d classes have none here", none)
		}
		fmt.Fprintln(w)
		if z := s.Sizes; z != nil && z.Smallest == z.Largest {
			fmt.Fprintf(w, "\tall of %dx%d pixels\n", z.Median[0], z.Median[1])
		} else if z != nil {
			fmt.Fprintf(w, "\t%dx%d pixels the smallest, %dx%d the median, %dx%d the largest\n", z.Smallest[0],
				z.Smallest[1], z.Median[0], z.Median[1], z.Largest[0], z.Largest[1])
		}
	}
	head := "equal content"
	for _, d := range c.Duplicates {
		where := "within " + d.Splits[0]
		if d.Splits[0] != d.Splits[1] {
			where = fmt.Sprintf("of %s that are in %s too", d.Splits[1], d.Splits[0])
		}
		fmt.Fprintf(w, "%s\t%d images %s, %d of them of another class: %s\n", head, d.Images, where, d.OtherClass,
			strings.Join(d.First, ", "))
		head = ""
	}
	head = "not read"
	for _, l := range c.LeftOut {
		fmt.Fprintf(w, "%s\t%v\n", head, l)
		head = ""
	}
	head = "damaged"
	for i, d := range c.Damaged {
		if i == damagedShown {
			fmt.Fprintf(w, "\tand %d more; --json lists all\n", len(c.Damaged)-i)
			break
		}
		fmt.Fprintf(w, "%s\t%s: %s: %s\n", head, d.Split, d.Image, d.Why)
		head = ""
	}
	if len(c.Damaged) == 0 {
		fmt.Fprintln(w, "damaged\tnone")
	}
	return w.Flush()
}
