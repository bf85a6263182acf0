package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/objects"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/trainer/data"
)

func newDataCommand(a *app) *cobra.Command {
	return group("data", "Look at sets of images, and get them", `  ctnas data check imagenet:/data/imagenet
  ctnas data pull s3://bucket/imagenet -o /nvme/imagenet
  ctnas data pack imagenet:/nvme/imagenet -o imagenet.pack`, newDataCheckCommand(a), newDataPackCommand(a),
		newDataPullCommand(a), newDataVerifyCommand(a))
}

func newDataPullCommand(a *app) *cobra.Command {
	var dir string
	atOnce := 16
	cmd := &cobra.Command{
		Use:   "pull s3://BUCKET/PREFIX -o DIR",
		Short: "Fetch a set of images from S3 into a folder",
		Long: `Fetches everything below a prefix of a bucket into a folder, whose names and folders are those behind the
prefix. What is there already with the same size and time is not fetched again, so that a pull that was stopped
goes on. Every object is compared with the checksum that the server has of it, and written whole or not at all.

The environment says where and who, as for other programs: AWS_ENDPOINT_URL (without it, Amazon's), AWS_REGION,
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or ~/.aws/credentials. Instead of s3:// it may be a folder.`,
		Example: `  ctnas data pull s3://bucket/imagenet -o /nvme/imagenet
  AWS_ENDPOINT_URL=https://minio.example:9000 ctnas data pull s3://sets/cifar10 -o cifar10`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return usagef(`required flag(s) "out" not set`)
			}
			s, err := objects.Open(args[0])
			if err != nil {
				return usageError{err}
			}
			update, finish := a.progress("objects")
			pulled, err := objects.Pull(cmd.Context(), s, dir, a.commandLine(), atOnce, update)
			finish()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(pulled)
			}
			_, err = fmt.Fprintf(a.stdout, "%s holds %d objects, %d bytes; %d were fetched\n", dir, pulled.Objects,
				pulled.Bytes, pulled.Fetched)
			return err
		},
	}
	l := setting.New()
	l.Group("Pull")
	l.Text(&dir, "out", "the `folder` to fetch into").Short("o")
	l.Int(&atOnce, "workers", "objects", "objects that are fetched at the same time", 1, 1024)
	a.bind(cmd, l)
	return cmd
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
