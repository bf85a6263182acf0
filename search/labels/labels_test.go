package labels_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/labels"
	_ "github.com/ctnas/ctnas/search/labels/sources"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// constant says the same of every architecture, and counts how often it was closed.
type constant struct{ closed int }

func (*constant) Has(space.Arch) bool { return true }
func (*constant) Label(_ context.Context, archs []space.Arch) ([]float64, error) {
	return make([]float64, len(archs)), nil
}
func (*constant) Facts() ledger.Facts { return ledger.Facts{Source: "constant", Metric: "nothing"} }
func (*constant) Describe() string    { return "nothing" }
func (c *constant) Close() error      { c.closed++; return nil }

// last is what the kind constant: has opened.
var last *constant

func init() {
	labels.Register(labels.Kind{
		Prefix: "constant:", Usage: "constant:",
		Open: func(_ context.Context, text string, sp space.Space, _ labels.Options) (*labels.Labels, error) {
			if text != "constant:" {
				return nil, labels.Errorf(text, "nothing stands behind %s", "constant:")
			}
			last = &constant{}
			return labels.New(sp, last, "sum", last.Close), nil
		},
	})
}

func small(t *testing.T) space.Space {
	sp, err := space.Open("nasbench101-v4")
	require.NoError(t, err)
	return sp
}

func TestAKindIsFoundByItsPrefix(t *testing.T) {
	sp := small(t)
	l, err := labels.Open(t.Context(), "constant:", sp, labels.Options{})
	require.NoError(t, err)
	require.Equal(t, "nasbench101-v4", l.Name())
	require.Equal(t, "sum", l.Content)
	require.Nil(t, l.View())
	require.Nil(t, l.Listed, "nobody asked")
	require.NoError(t, l.Close())
	require.Equal(t, 1, last.closed)
	_, _, err = l.Table(t.Context(), nil, labels.Options{})
	require.ErrorContains(t, err, "want those of a table")

	l, err = labels.Open(t.Context(), "constant:", sp, labels.Options{Listed: true})
	require.NoError(t, err)
	require.Len(t, l.Listed, 91)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	_, err = labels.Open(stopped, "constant:", space.NASBench101{}, labels.Options{Listed: true})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, last.closed, "what was opened for nothing")
}

// What a text is to blame for is told from what else may fail.
func TestTextsThatNameNothing(t *testing.T) {
	for text, want := range map[string]string{
		"nothing":              "want table:FILE",
		"constant:x":           `labels "constant:x": nothing stands behind`,
		"table:":               "no file",
		"predictor:x":          "knows networks of --space mobilenetv3",
		"train:shapes?a=b":     `unknown key "a"`,
		"table:shapes91?run=9": "run 9",
	} {
		_, err := labels.Open(t.Context(), text, small(t), labels.Options{})
		require.ErrorContains(t, err, want, text)
		require.True(t, errors.As(err, new(*labels.TextError)), text)
	}
	_, err := labels.Open(t.Context(), "table:"+filepath.Join(t.TempDir(), "x"), small(t), labels.Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.False(t, errors.As(err, new(*labels.TextError)))
	require.Panics(t, func() { labels.Register(labels.Kind{Prefix: "table:"}) })
	for _, prefix := range []string{"table:", "predictor:", "train:"} {
		require.Contains(t, labels.Usage(), prefix)
	}
}

// A table lists what it has; the checksum of what it says is its own.
func TestTables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.csv")
	require.NoError(t, os.WriteFile(path, []byte("arch,accuracy\nnasbench101:3:101:0,0.5\nnasbench101:resnet,0.7\n"),
		0o644))
	l, err := labels.Open(t.Context(), "table:"+path, space.NASBench101{}, labels.Options{Listed: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	require.Equal(t, "nasbench101, t.csv", l.Name())
	require.Nil(t, l.Listed, "the table says what there is")
	require.Equal(t, l.View().Checksum(), l.Content)
	require.NotEqual(t, l.Checksum, l.Content)
}

func TestAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for text, want := range map[string]string{
		"table:t": "table:" + dir + "/t", "table:t?run=1": "table:" + dir + "/t?run=1",
		"table:shapes91?run=2": "table:shapes91?run=2",
		"predictor:p":          "predictor:" + dir + "/p", "train:imagenet:d?recipe=shapes": "train:imagenet:" + dir +
			"/d?recipe=shapes",
		"constant:": "constant:",
	} {
		got, err := labels.Absolute(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"x", "table:", "train:x"} {
		_, err := labels.Absolute(text)
		require.True(t, errors.As(err, new(*labels.TextError)), text)
	}
}

// Every source that comes with the program says how its texts look, and those that need it more.
func TestHelp(t *testing.T) {
	help := labels.Help()
	for _, of := range []string{"Labels train:DATA?recipe=R", "Labels zero-cost:params"} {
		require.Contains(t, help, of)
	}
	require.NotContains(t, help, "\n\n\n")
	require.Regexp(t, `^table:FILE, .* or .*$`, labels.Usage())
}
