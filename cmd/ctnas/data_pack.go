package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/data/pack"
)

func newDataPackCommand(a *app) *cobra.Command {
	var path string
	c := data.PackConfig{Side: 256, Quality: 90}
	cmd := &cobra.Command{
		Use:   "pack SET -o FILE",
		Short: "Write a set of images into one file of small ones",
		Long: `Writes the images of a set (imagenet:DIR or shards:GLOB) into one file, each resized so that its shorter
side has --side pixels and encoded anew; smaller images stay as they are. imagenet:FILE is then a set of images like
others, which is read several times as fast. It is another set: the texts of its results say "256-pixel store", and its
checksum is another one.

The file is the same, byte for byte, for any number of workers. What is stopped leaves FILE.part, and the same command
goes on from there. Images that cannot be read end the work, or with --on-corrupt skip keep a place without bytes.`,
		Example: `  ctnas data pack imagenet:/data/imagenet -o imagenet.pack
  ctnas train mobilenetv2_1.0 --data imagenet:imagenet.pack --recipe ctnas-imagenet --out run
  ctnas data pack 'shards:/data/train-{000..099}.tar?test=/data/val.tar' -o raw.pack --raw`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if path == "" {
				return usagef(`required flag(s) "out" not set`)
			}
			if c.Raw && a.onLine["quality"] {
				return usagef("--quality is of JPEG: --raw keeps pixels")
			}
			if err := data.CheckSpec(args[0]); err != nil {
				return usageError{err}
			}
			o, finish := a.imageOptions()
			d, err := data.Open(args[0], o)
			if err != nil {
				return err
			}
			defer func() { _ = d.Close() }()
			defer finish()
			update, finishPacking := a.progress("packed images")
			c.Command, c.Progress = a.commandLine(), update
			c.Corrupt = func(c data.Corrupt) { a.log.Warn(fmt.Sprintf("an image is left out: %v", c)) }
			p, err := d.Pack(cmd.Context(), path, c)
			finishPacking()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(p)
			}
			return a.printPacked(p)
		},
	}
	l := setting.New()
	l.Group("Pack")
	l.Text(&path, "out", "the `file` to write").Short("o").Path(files.Absolute)
	l.Int(&c.Side, "side", "pixels", "what the shorter side of an image has at most", 1, 8192)
	l.Int(&c.Quality, "quality", "", "of JPEG", 1, 100)
	l.Bool(&c.Raw, "raw", "keep pixels instead of JPEG: some ten times the bytes, and nothing to decode")
	trainer.AddOnCorrupt(l, &c.OnCorrupt)
	l.Int(&c.Workers, "workers", "goroutines", "goroutines that make images small (0 = as many as processors)", 0, 1024)
	a.bind(cmd, l)
	return cmd
}

func (a *app) printPacked(p *data.Packed) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	is := "is written"
	if p.Was {
		is = "was there"
	}
	fmt.Fprintf(w, "%s\t%s: %s of %d bytes, checksum %.12s\n", p.Path, is, p.Store, p.Bytes, p.Checksum)
	for _, part := range []string{data.SplitTrain, data.SplitValidation, data.SplitTest} {
		if n := p.Images[part]; n > 0 {
			fmt.Fprintf(w, "%s\t%d images\n", part, n)
		}
	}
	if p.Corrupt > 0 {
		fmt.Fprintf(w, "left out\t%d images that could not be read, each with a place without bytes\n", p.Corrupt)
	}
	return w.Flush()
}

// verified is what data verify prints with --json.
type verified struct {
	Path     string         `json:"path"`
	Checksum string         `json:"checksum"`
	Facts    pack.Facts     `json:"facts"`
	Corrupt  int            `json:"corrupt_images"`
	Damaged  []pack.Damaged `json:"damaged"`
}

func newDataVerifyCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Read a packed set and compare all of its sums",
		Long: `Reads every byte of what ` + "`ctnas data pack`" + ` wrote, compares all sums and says which images are
damaged, with the places where they lie. Exits with 1 if there are such. Whether the images can be decoded is told by
` + "`ctnas data check imagenet:FILE`" + `.`,
		Example: `  ctnas data verify imagenet.pack`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := pack.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			update, finish := a.progress("read blocks")
			v, err := f.Verify(cmd.Context(), update)
			finish()
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if a.json {
				err = a.printJSON(verified{args[0], f.Checksum(), f.Facts, v.Left, v.Damaged})
			} else {
				err = a.printVerified(args[0], f, v)
			}
			if n := len(v.Damaged); err == nil && n > 0 {
				err = fmt.Errorf("%s: %d images or blocks are damaged", args[0], n)
			}
			return err
		},
	}
}

// printVerified is what a file holds and what of it is damaged, for people.
func (a *app) printVerified(path string, f *pack.File, v *pack.Verified) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	form := f.Form
	if f.Form == pack.FormJPEG {
		form = fmt.Sprintf("JPEG of quality %d (%s)", f.Quality, f.Encoder)
	}
	fmt.Fprintf(w, "%s\t%d-pixel store of %s, %s, %d bytes, checksum %.12s\n", path, f.Side, f.Source, form, f.Size(),
		f.Checksum())
	fmt.Fprintf(w, "images\t%d train, %d validation, %d test, of %d classes\n", f.Images[pack.Train],
		f.Images[pack.Validation], f.Images[pack.Test], len(f.Classes))
	if v.Left > 0 {
		fmt.Fprintf(w, "left out\t%d images that could not be read when it was packed\n", v.Left)
	}
	head := "damaged"
	for i, d := range v.Damaged {
		if i == damagedShown {
			fmt.Fprintf(w, "\tand %d more; --json lists all\n", len(v.Damaged)-i)
			break
		}
		what := ""
		if d.Image >= 0 {
			what = f.Name(d.Image) + ": "
		}
		fmt.Fprintf(w, "%s\t%s%s\n", head, what, d.Why)
		head = ""
	}
	if len(v.Damaged) == 0 {
		fmt.Fprintln(w, "damaged\tnone")
	}
	return w.Flush()
}
