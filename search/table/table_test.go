package table

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/internal/tfrecord"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

// someCells returns n different cells in ascending order of their hash.
func someCells(n int) []space.Cell {
	stream := philox.New(5, philox.PurposeTest, 0)
	hash := map[space.Cell]string{} // which takes long to compute
	var cells []space.Cell
	for len(cells) < n {
		c := space.NASBench101{}.Sample(stream).(space.Cell)
		if hash[c] == "" {
			hash[c] = c.Hash()
			cells = append(cells, c)
		}
	}
	slices.SortFunc(cells, func(a, b space.Cell) int { return strings.Compare(hash[a], hash[b]) })
	return cells
}

// shuffled puts records into another order than that of a table.
func shuffled[T any](list []T) []T {
	out := make([]T, len(list))
	for i, k := range philox.New(6, philox.PurposeTest, 0).Perm(len(list)) {
		out[i] = list[k]
	}
	return out
}

// fakeAccuracy is a number that depends on everything, as float32 arithmetic gives it.
func fakeAccuracy(c space.Cell, m Metric) float64 {
	k := (uint64(c)*2654435761 + uint64(len(m.Split))*97 + uint64(m.Run)*1009 + uint64(m.Epochs)*31) % 9985
	return float64(float32(k) / 9984)
}

func file(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o644))
	return path
}

func open(t testing.TB, name string, content []byte) *Table {
	t.Helper()
	table, err := Open(t.Context(), file(t, name, content), Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, table.Close()) })
	return table
}

func zipped(t testing.TB, content []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// matrixText is the adjacency matrix as zeros and ones, row by row.
func matrixText(c space.Cell) string {
	var text strings.Builder
	for _, row := range c.Matrix() {
		for _, edge := range row {
			fmt.Fprint(&text, edge)
		}
	}
	return text.String()
}

// evaluation is an EvaluationData.
func evaluation(epoch, seconds, train, validation, test float64) []byte {
	var m []byte
	for i, v := range []float64{epoch, seconds, train, validation, test} {
		m = protowire.AppendTag(m, protowire.Number(i+1), protowire.Fixed64Type)
		m = protowire.AppendFixed64(m, math.Float64bits(v))
	}
	m = protowire.AppendTag(m, 6, protowire.BytesType)
	return protowire.AppendString(m, "a/checkpoint")
}

// modelMetrics is a ModelMetrics.
func modelMetrics(params int64, evaluations ...[]byte) []byte {
	var m []byte
	for _, e := range evaluations {
		m = protowire.AppendTag(m, 1, protowire.BytesType)
		m = protowire.AppendBytes(m, e)
	}
	m = protowire.AppendTag(m, 2, protowire.VarintType)
	m = protowire.AppendVarint(m, uint64(params))
	m = protowire.AppendTag(m, 3, protowire.Fixed64Type)
	return protowire.AppendFixed64(m, math.Float64bits(1234.5))
}

// trainingJSON is the content of one tfrecord.
func trainingJSON(hash string, epochs int, adjacency, operations string, metrics []byte) []byte {
	text, err := json.Marshal([]any{hash, epochs, adjacency, operations, base64.StdEncoding.EncodeToString(metrics)})
	if err != nil {
		panic(err)
	}
	return text
}

func tfContent(c space.Cell, run, epochs int) []byte {
	value := func(split string) float64 { return fakeAccuracy(c, Metric{Accuracy, split, run, epochs}) }
	last := evaluation(float64(epochs), float64(run)+0.25, value("train"), value("validation"), value("test"))
	metrics := modelMetrics(c.Cost().Params, evaluation(0, 0, 0.1, 0.1, 0.1),
		evaluation(float64(epochs)/2, 0.1, 0.5, 0.5, 0.5), last)
	return trainingJSON(c.Hash(), epochs, matrixText(c), strings.Join(c.OpNames(), ","), metrics)
}

func framed(contents ...[]byte) (file []byte) {
	for _, c := range contents {
		file = tfrecord.Append(file, c)
	}
	return file
}

// tfFile has three runs of each cell and number of epochs, the runs of a cell apart from each other.
func tfFile(cells []space.Cell, epochs ...int) []byte {
	var contents [][]byte
	for run := 1; run <= 3; run++ {
		for _, e := range epochs {
			for _, c := range cells {
				contents = append(contents, tfContent(c, run, e))
			}
		}
	}
	return framed(contents...)
}

// bytesOf is a table in the compact form.
func bytesOf(t testing.TB, table *Table, sections ...Section) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, table.writeCTT(&out, sections))
	return out.Bytes()
}

// requireError checks that an error names the file and the place.
func requireError(t testing.TB, err error, record, offset int64, line int, text string) {
	t.Helper()
	var at *Error
	require.ErrorAs(t, err, &at)
	require.ErrorContains(t, err, text)
	require.Equal(t, []int64{record, offset, int64(line)}, []int64{at.Record, at.Offset, int64(at.Line)}, "%v", err)
	require.True(t, strings.HasPrefix(err.Error(), at.File+": "), err.Error())
	require.FileExists(t, at.File)
}

func openError(t testing.TB, content []byte, o Options) error {
	t.Helper()
	_, err := Open(t.Context(), file(t, "labels", content), o)
	require.Error(t, err)
	return err
}

func TestOpenTellsWhatIsNoTable(t *testing.T) {
	_, err := Open(t.Context(), filepath.Join(t.TempDir(), "absent"), Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(t.Context(), t.TempDir(), Options{})
	require.ErrorContains(t, err, "is a folder")
	requireError(t, openError(t, nil, Options{}), -1, 0, 0, "empty")
	requireError(t, openError(t, []byte("<html><body>Not found</body></html>"), Options{}), -1, 0, 0, "no column arch")
	requireError(t, openError(t, []byte("{\"a\": 1}"), Options{}), -1, 0, 0, "not a JSON list")
	requireError(t, openError(t, make([]byte, 100), Options{}), 0, 0, 0, "checksum")
	requireError(t, openError(t, zipped(t, nil), Options{}), -1, 0, 0, "empty")
	requireError(t, openError(t, []byte("\x1f\x8bnot really gzip"), Options{}), -1, 0, 0, "gzip")
}

func TestFormatsAgree(t *testing.T) {
	cells := someCells(30)
	var csvText strings.Builder
	var items []map[string]any
	csvText.WriteString("arch,validation_accuracy,test_accuracy,train_accuracy\n")
	mean := func(c space.Cell, split string) float64 { return fakeAccuracy(c, Metric{Accuracy, split, 0, 108}) }
	for _, c := range shuffled(cells) {
		fmt.Fprintf(&csvText, "%v,%v,%v,%v\n", c, mean(c, "validation"), mean(c, "test"), mean(c, "train"))
		items = append(items, map[string]any{
			"matrix": c.Matrix(), "ops": c.OpNames(), "hash_": c.Hash(), "n_params": c.Cost().Params,
			"train_accuracy": mean(c, "train"), "validation_accuracy": mean(c, "validation"),
			"test_accuracy": mean(c, "test"),
		})
	}
	text, err := json.Marshal(items)
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		FormatCSV: []byte(csvText.String()), FormatCSV + ".gz": zipped(t, []byte(csvText.String())),
		FormatJSON: text, FormatJSON + ".gz": zipped(t, text), FormatTFRecord: tfFile(shuffled(cells), 108),
	} {
		table := open(t, "a_file_whose_name_says_nothing", content)
		require.Equal(t, name, table.Format())
		require.Equal(t, len(cells), table.Len())
		sum := sha256.Sum256(content)
		require.Equal(t, hex.EncodeToString(sum[:]), table.Checksum())
		for i, c := range cells {
			require.Equal(t, space.Arch(c), table.Arch(i), "rows are in ascending order of hash")
			found, ok := table.Index(c)
			require.True(t, ok)
			require.Equal(t, i, found)
		}
		_, ok := table.Index(someCells(31)[slices.IndexFunc(someCells(31), func(c space.Cell) bool {
			return !slices.Contains(cells, c)
		})])
		require.False(t, ok)
		for k, m := range table.Metrics() {
			if m.Name != Accuracy {
				continue
			}
			for i, c := range cells {
				require.Equal(t, fakeAccuracy(c, Metric{Accuracy, m.Split, m.Run, 108}), table.Value(k, i), "%v", m)
			}
		}
	}
}

func TestResultDoesNotDependOnThreads(t *testing.T) {
	cells := shuffled(someCells(1500))
	contents := [][]byte{tfFile(cells, 12)}
	text := "arch,test_accuracy\n"
	for i, c := range cells {
		text += fmt.Sprintf("%v,%v\n", c, float64(i)/3000)
	}
	contents = append(contents, []byte(text))
	for _, content := range contents {
		path := file(t, "labels", content)
		var want []byte
		for _, threads := range []int{1, 5} {
			table, err := Open(t.Context(), path, Options{Threads: threads})
			require.NoError(t, err)
			got := bytesOf(t, table)
			if want == nil {
				want = got
			}
			require.Equal(t, want, got)
		}
	}
}

func TestTheEarliestFaultIsReported(t *testing.T) {
	cells := someCells(2200)
	lines := []string{"arch,test_accuracy"}
	for _, c := range cells {
		lines = append(lines, fmt.Sprintf("%v,0.5", c))
	}
	lines[1501] = "nasbench101:nonsense,0.5"
	lines[2100] = lines[5]     // twice
	lines[2150] = "a,b,c,d"    // framing, which is found first
	lines[1502] = "also wrong" // one after the first fault
	text := strings.Join(lines, "\n")
	for _, threads := range []int{1, 2, 5} {
		err := openError(t, []byte(text), Options{Threads: threads})
		requireError(t, err, 1500, int64(len(strings.Join(lines[:1501], "\n"))+1), 1502, "nonsense")
	}
}

func TestProgress(t *testing.T) {
	content := tfFile(someCells(20), 108)
	last, lastTotal := int64(0), int64(0)
	_, err := Open(t.Context(), file(t, "x", content), Options{Progress: func(done, total int64) {
		require.Greater(t, done, last)
		last, lastTotal = done, total
	}})
	require.NoError(t, err)
	require.Equal(t, int64(len(content)), last)
	require.Equal(t, int64(len(content)), lastTotal)
}

func TestVerifyChecksum(t *testing.T) {
	content := tfFile(someCells(3), 108)
	sum := sha256.Sum256(content)
	path := file(t, "nasbench_only108.tfrecord", content)
	converted := filepath.Join(t.TempDir(), "x.ctt")
	table, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	require.NoError(t, WriteCTT(converted, table))

	for _, p := range []string{path, converted} {
		_, err = Open(t.Context(), p, Options{VerifyChecksum: true})
		requireError(t, err, -1, 0, 0, "is that of neither published file (nasbench_only108.tfrecord, "+
			"nasbench_full.tfrecord)")
	}
	before := Published
	t.Cleanup(func() { Published = before })
	Published = append(slices.Clone(before), Remote{Name: "ours", SHA256: hex.EncodeToString(sum[:])})
	for _, p := range []string{path, converted} {
		_, err = Open(t.Context(), p, Options{VerifyChecksum: true})
		require.NoError(t, err)
	}
	_, err = Open(t.Context(), file(t, "x.csv", []byte("arch,accuracy\nnasbench101:best,0.9\n")),
		Options{VerifyChecksum: true})
	requireError(t, err, -1, 0, 0, "no SHA-256 is published for x.csv")
}

func TestInfo(t *testing.T) {
	best := someCells(5)[3]
	text := "arch,test_accuracy_run1_epochs108\n"
	for i, c := range someCells(5) {
		text += fmt.Sprintf("%v,%v\n", c, 0.9-0.01*math.Abs(float64(i)-3))
	}
	table := open(t, "own.csv", []byte(text))
	info, err := table.Info()
	require.NoError(t, err)
	got, err := json.Marshal(info)
	require.NoError(t, err)
	cost := best.Cost()
	want := fmt.Sprintf(`{"file":%q,"format":"csv","space":"nasbench101","records":5,
		"metrics":[{"name":"accuracy","split":"test","run":1,"epochs":108}],
		"best":{"arch":%q,"hash":%q,"accuracy":0.9,"judged":"test accuracy, run 1, 108 epochs","params":%d,"madds":%d},
		"checksum":%q,"source":{"file":"own.csv","format":"csv","sha256":%q}}`,
		table.Path(), best.String(), best.Hash(), cost.Params, cost.MAdds, table.Checksum(), table.Checksum())
	require.JSONEq(t, want, string(got))

	noAccuracy := open(t, "train_only.csv", []byte("arch,training_time,train_accuracy\nnasbench101:best,3,0.5\n"))
	info, err = noAccuracy.Info()
	require.NoError(t, err)
	require.Nil(t, info.Best, "training accuracy judges nothing unless asked for")

	apart := open(t, "apart.csv",
		[]byte("arch,validation_accuracy,test_accuracy\nnasbench101:best,0.5,\nnasbench101:inception,,0.5\n"))
	info, err = apart.Info()
	require.NoError(t, err)
	require.Nil(t, info.Best)
	require.Equal(t, 2, info.Records)
}

// realTable is the shared file of NAS-Bench-101's first runs.
func realTable(t testing.TB) string { return testdata.Path(t, "nasbench101/nb101_run0.csv.gz") }

func TestRealTable(t *testing.T) {
	testdata.SkipUnlessAll(t, "reads 423,624 cells")
	path := realTable(t)
	begin := time.Now()
	table, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	t.Logf("read, with hash and parameters of every cell verified: %v", time.Since(begin))
	require.Equal(t, 423_624, table.Len())
	require.Equal(t, []Metric{{Accuracy, "test", 1, 108}}, table.Metrics())
	require.Equal(t, FormatCSV+".gz", table.Format())

	// The file itself, taken apart without this package: its rows are in the table's order.
	raw, err := os.Open(path)
	require.NoError(t, err)
	defer raw.Close()
	unpacked, err := gzip.NewReader(raw)
	require.NoError(t, err)
	all, err := io.ReadAll(unpacked)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(all)), "\n")[1:]
	require.Equal(t, table.Len(), len(lines)) // not Len, which prints them
	for i, line := range lines {
		f := strings.Split(line, ",")
		correct := 0
		_, err := fmt.Sscan(f[5], &correct)
		require.NoError(t, err)
		if got := table.Value(0, i); got != float64(correct)/9984 {
			t.Fatalf("row %d: %v, want %d/9984", i, got, correct)
		}
		if i%997 == 0 {
			require.Equal(t, f[1], table.Arch(i).Hash())
			require.Equal(t, f[6], fmt.Sprint(table.Arch(i).Cost().Params))
		}
	}

	converted := filepath.Join(t.TempDir(), "run0.ctt")
	require.NoError(t, WriteCTT(converted, table))
	begin = time.Now()
	again, err := Open(t.Context(), converted, Options{})
	require.NoError(t, err)
	t.Logf("opened again from the compact form: %v", time.Since(begin))
	defer again.Close()
	stat, err := os.Stat(converted)
	require.NoError(t, err)
	require.Less(t, stat.Size(), int64(6<<20))
	require.Equal(t, table.Checksum(), again.Checksum())
	require.Equal(t, table.Len(), again.Len())
	require.Equal(t, table.Metrics(), again.Metrics())
	for i := range table.Len() {
		if table.Arch(i) != again.Arch(i) || table.Value(0, i) != again.Value(0, i) {
			t.Fatalf("row %d differs", i)
		}
	}
	begin = time.Now()
	for i := range again.Len() {
		if found, ok := again.Index(again.Arch(i)); !ok || found != i {
			t.Fatalf("row %d is found at %d", i, found)
		}
	}
	t.Logf("every cell found by its index, which is built on the way: %v", time.Since(begin))

	view, err := again.View(Query{})
	require.NoError(t, err)
	best, accuracy, err := view.Best()
	require.NoError(t, err)
	require.Equal(t, 9451.0/9984, accuracy)
	rank, err := view.Rank(best)
	require.NoError(t, err)
	require.Equal(t, 1, rank)
	published, ok := again.Index(mustParse(t, "nasbench101:best"))
	require.True(t, ok)
	rank, err = view.Rank(published)
	require.NoError(t, err)
	require.Greater(t, rank, 1, "the best mean of three runs is not the best first run")

	view, err = again.View(Query{Diverged: DivergedDrop})
	require.NoError(t, err)
	require.Equal(t, 423_624-2_673, len(view.Cells())) // not Len, which prints them

	helper := exec.Command(os.Args[0], "-test.run=^TestMemoryHelper$", "-test.v")
	helper.Env = append(os.Environ(), "CTNAS_TABLE_HELPER="+converted)
	out, err := helper.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, "helper:") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func mustParse(t testing.TB, text string) space.Arch {
	t.Helper()
	a, err := space.NASBench101{}.Parse(text)
	require.NoError(t, err)
	return a
}

// TestMemoryHelper runs in a process of its own, started by TestRealTable, to see what opening alone takes.
func TestMemoryHelper(t *testing.T) {
	path := os.Getenv("CTNAS_TABLE_HELPER")
	if path == "" {
		t.Skip("only as a helper of TestRealTable")
	}
	begin := time.Now()
	table, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	opened := time.Since(begin)
	_, ok := table.Index(table.Arch(0))
	require.True(t, ok)
	indexed := time.Since(begin)
	view, err := table.View(Query{})
	require.NoError(t, err)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		status = []byte("VmHWM: unknown")
	}
	peak := ""
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "VmHWM:") {
			peak = strings.Join(strings.Fields(line), " ")
		}
	}
	t.Logf("helper: open %v, with index %v, with a view of %d rows %v; %s", opened, indexed, len(view.Cells()),
		time.Since(begin), peak)
	runtime.KeepAlive(table)
}

// TestEarlyEpochsFile reads the other shared file, of the small cells after 4 epochs.
func TestEarlyEpochsFile(t *testing.T) {
	table, err := Open(t.Context(), testdata.Path(t, "nasbench101/ecnas_4epoch.csv"), Options{})
	require.NoError(t, err)
	require.Equal(t, 2_532, table.Len())
	require.Equal(t, []Metric{
		{Accuracy, "test", 0, 4}, {Accuracy, "validation", 0, 4}, {TrainingTime, "", 0, 4}, {Accuracy, "test", 1, 108},
	}, table.Metrics())
	v, err := table.View(Query{})
	require.NoError(t, err)
	require.Equal(t, "chosen on validation accuracy, mean of runs, 4 epochs, judged on test accuracy, mean of runs, "+
		"4 epochs", v.Describe())
	v, err = table.View(Query{JudgeEpochs: 108, JudgeRun: 1})
	require.NoError(t, err)
	require.Equal(t, "chosen on validation accuracy, mean of runs, 4 epochs, judged on test accuracy, run 1, 108 "+
		"epochs", v.Describe())
}

// spaceOf opens a space.
func spaceOf(t testing.TB, name string) space.Space {
	t.Helper()
	sp, err := space.Open(name)
	require.NoError(t, err)
	return sp
}

// openLabels opens a table and takes the view that a text asks for.
func openLabels(ctx context.Context, text string, o Options) (*Table, *View, error) {
	path, q, err := ParseLabels(text)
	if err != nil {
		return nil, nil, err
	}
	o.Columns = q.Columns
	t, err := Open(ctx, path, o)
	if err != nil {
		return nil, nil, err
	}
	v, err := t.View(q)
	if err != nil {
		_ = t.Close()
		return nil, nil, err
	}
	return t, v, nil
}
