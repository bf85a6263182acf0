package zoo_test

import (
	"bufio"
	"compress/gzip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// normalised counts the outputs of a network's batch norms.
func normalised(net *nn.Network) int64 {
	count := 0
	for _, node := range net.Nodes {
		if _, ok := node.Op.(nn.BatchNorm); ok {
			count += node.Shape.Len()
		}
	}
	return int64(count)
}

// Parameters of published cells, from the data set's README and notebook; MAdds are our own count.
func TestNASBench101Published(t *testing.T) {
	for _, c := range []struct {
		cell string
		cost nn.Cost
	}{
		{"nasbench101:2:1:", nn.Cost{MAdds: 137761792, Params: 882570}},
		{"nasbench101:3:101:0", nn.Cost{MAdds: 1496716288, Params: 10177674}},
		{"nasbench101:resnet", nn.Cost{MAdds: 2989888512, Params: 20346506}},
		{"nasbench101:inception", nn.Cost{MAdds: 402002944, Params: 2694282}},
	} {
		net, err := zoo.NASBench101(parse(t, c.cell), 128, 10)
		require.NoError(t, err)
		require.Equal(t, c.cost, net.Cost(), c.cell)
	}
}

func parse(t *testing.T, text string) space.Cell {
	arch, err := space.NASBench101{}.Parse(text)
	require.NoError(t, err)
	return arch.(space.Cell)
}

// Random cells cost what the search space says, and shapes are those of the skeleton.
func TestNASBench101Random(t *testing.T) {
	s := philox.New(3, philox.PurposeTest, 1)
	cells := 500
	if testing.Short() {
		cells = 50
	}
	for range cells {
		cell := space.NASBench101{}.Sample(s).(space.Cell)
		net, err := zoo.NASBench101(cell, 128, 10)
		require.NoError(t, err)
		cost := cell.Cost()
		require.Equal(t, nn.Cost{MAdds: cost.MAdds, Params: cost.Params}, net.Cost(), cell)
		require.Equal(t, nn.Shape{H: 8, W: 8, C: 512}, net.Inputs(net.Find("pool"))[0])
	}
}

// Every fiftieth cell of the table (with -short every thousandth) has the published parameters, and its
// multiply-accumulates are the published operations less two for each output of a batch norm.
func TestNASBench101Table(t *testing.T) {
	file, err := os.Open(testdata.Path(t, "nasbench101/nb101_run0.csv.gz"))
	require.NoError(t, err)
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	lines := bufio.NewScanner(unzipped)
	require.True(t, lines.Scan())
	require.Equal(t, "index,hash,n,adj,ops,test_correct_of_9984,params,flops", lines.Text())
	step := 500
	switch {
	case testing.Short():
		step = 2000
	case testdata.All():
		step = 50
	}
	checked := 0
	for i := 0; lines.Scan(); i++ {
		if i%step != 0 {
			continue
		}
		f := strings.Split(lines.Text(), ",")
		cell := parse(t, "nasbench101:"+f[2]+":"+f[3]+":"+f[4])
		net, err := zoo.NASBench101(cell, 128, 10)
		require.NoError(t, err)
		params, err := strconv.ParseInt(f[6], 10, 64)
		require.NoError(t, err)
		flops, err := strconv.ParseInt(f[7], 10, 64)
		require.NoError(t, err)
		if got, want := net.Cost(), (nn.Cost{MAdds: flops - 2*normalised(net), Params: params}); got != want {
			require.Equal(t, want, got, cell)
		}
		checked++
	}
	require.NoError(t, lines.Err())
	require.Equal(t, (423624+step-1)/step, checked)
}

// badCell is a cell that space would refuse.
type badCell struct {
	matrix [][]int
	ops    []string
}

func (c badCell) Matrix() [][]int   { return c.matrix }
func (c badCell) OpNames() []string { return c.ops }

func TestNASBench101Errors(t *testing.T) {
	for _, c := range []struct {
		cell              badCell
		channels, classes int
		want              string
	}{
		{badCell{[][]int{{0, 1}, {0, 0}}, []string{"input"}}, 128, 10, "cell of 2 vertices with 1 operations"},
		{badCell{[][]int{{0, 1}, {0}}, []string{"input", "output"}}, 128, 10,
			"row 1 of the cell's matrix has 1 columns, want 2"},
		{badCell{[][]int{{0, 0}, {0, 0}}, []string{"input", "output"}}, 8, 10,
			"nasbench101: stack1/module1/vertex1: nothing leads to this vertex"},
		{badCell{[][]int{{0, 1, 0}, {0, 0, 1}, {0, 0, 0}}, []string{"input", "conv9x9", "output"}}, 8, 10,
			`nasbench101: stack1/module1/vertex1: unknown operation "conv9x9"`},
		{badCell{[][]int{{0, 1}, {0, 0}}, []string{"input", "output"}}, 0, 10,
			"nasbench101: stem/conv: 3x3 convolution to 0 channels"},
		{badCell{[][]int{{0, 1}, {0, 0}}, []string{"input", "output"}}, 8, 0,
			"nasbench101: classifier: linear layer to 0 outputs"},
	} {
		_, err := zoo.NASBench101(c.cell, c.channels, c.classes)
		require.EqualError(t, err, c.want)
	}
}
