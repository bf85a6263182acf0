package table

import (
	"encoding/binary"
	"fmt"
	"math"
	"regexp"

	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

// utf16Of writes a text in UTF-16, with a byte-order mark or without.
func utf16Of(text string, order binary.AppendByteOrder, mark bool) []byte {
	var out []byte
	if mark {
		out = order.AppendUint16(out, 0xfeff)
	}
	for _, u := range utf16.Encode([]rune(text)) {
		out = order.AppendUint16(out, u)
	}
	return out
}

// The same table as programs of many kinds write it.
func TestCSVForms(t *testing.T) {
	cell := mustParse(t, "nasbench101:4:101101:02")
	const plain = "adjacency,operations,test_accuracy,params,training_time\n101101,02,0.9432,PARAMS,1234.5\n1,,,,\n"
	for name, text := range map[string]string{
		"plain":      plain,
		"semicolons": strings.ReplaceAll(plain, ",", ";"),
		"tabs":       strings.ReplaceAll(plain, ",", "\t"),
		"windows":    strings.ReplaceAll(plain, "\n", "\r\n"),
		"old mac":    strings.ReplaceAll(plain, "\n", "\r"),
		"a mark":     "\ufeff" + plain,
		"spaces":     strings.ReplaceAll(plain, ",", ", "),
		"sep line":   "sep=;\r\n" + strings.ReplaceAll(plain, ",", ";"),
		"quoted": "\"adjacency\",\"operations\",\"test_accuracy\",\"params\",\"training_time\"\n" +
			"\"101101\",\"02\",\"0.9432\",\"PARAMS\",\"1234.5\"\n\"1\",\"\",\"\",\"\",\"\"\n",
		"quoted twice": "adjacency,operations,test_accuracy,params,training_time\n" +
			"'101101','02','0.9432',\"\"\"PARAMS\"\"\",'1234.5'\n1,'','','',''\n",
		"header with spaces": strings.Replace(plain, "test_accuracy,params,training_time",
			"Test Accuracy, Params ,Training Time", 1),
		"capitals": strings.Replace(plain, "adjacency,operations,test_accuracy",
			"Adjacency,OPERATIONS,Test_Acc", 1),
		"decimal commas": strings.NewReplacer(",", ";", "0.9432", "0,9432", "1234.5", "1234,5").Replace(plain),
		"european": strings.NewReplacer(",", ";", "0.9432", "0,9432", "1234.5", "1.234,5", "PARAMS",
			"11.051.402").Replace(plain),
		"percent by name": strings.NewReplacer("test_accuracy", "test_accuracy_percent", "0.9432",
			"94.32").Replace(plain),
		"percent in brackets": strings.NewReplacer("test_accuracy", "Test accuracy (%)", "0.9432",
			"94.32").Replace(plain),
		"percent signs":   strings.ReplaceAll(plain, "0.9432", "94.32 %"),
		"a float count":   strings.ReplaceAll(plain, "PARAMS", "PARAMS.0"),
		"thousands":       strings.NewReplacer("PARAMS", "\"11,051,402\"", "1234.5", "\"1,234.5\"").Replace(plain),
		"other thousands": strings.NewReplacer("PARAMS", "11'051'402", "1234.5", "1 234.5").Replace(plain),
		"numpy": strings.NewReplacer("0.9432", "np.float64(0.9432)", "PARAMS", "np.int64(PARAMS)",
			"1234.5", "tensor(1234.5)").Replace(plain),
		"empty rows": plain + ",,,,\n\n,,,,\n",
		"an index": "Unnamed: 0,adjacency,operations,test_accuracy,params,training_time\n" +
			"0,101101,02,0.9432,PARAMS,1234.5\n1,1,,,,\n",
	} {
		text = strings.NewReplacer("PARAMS.0", "11051402.0", "PARAMS", "11051402").Replace(text)
		check := func(name string, content []byte) {
			table := open(t, "x.csv", content)
			require.Equal(t, 2, table.Len(), name)
			i, ok := table.Index(cell)
			require.True(t, ok, name)
			require.Len(t, table.Metrics(), 2, name)
			for m, want := range map[Metric]float64{{Accuracy, "test", 0, 0}: 0.9432, {Name: TrainingTime}: 1234.5} {
				for k := range table.Metrics() {
					if table.Metrics()[k] == m {
						require.InDelta(t, want, table.Value(k, i), 1e-12, name)
						require.True(t, math.IsNaN(table.Value(k, 1-i)), name)
					}
				}
			}
		}
		check(name, []byte(text))
		text = strings.TrimPrefix(text, "\ufeff")
		check(name+", UTF-16", utf16Of(text, binary.LittleEndian, true))
		check(name+", UTF-16, compressed", zipped(t, utf16Of(text, binary.BigEndian, true)))
		check(name+", UTF-16 without a mark", utf16Of(text, binary.LittleEndian, false))
		check(name+", UTF-16 without a mark", utf16Of(text, binary.BigEndian, false))
	}
}

func TestCSVGaps(t *testing.T) {
	for _, gap := range []string{"", " ", "nan", "NaN", "None", "null", "NA", "N/A", "<NA>", "np.nan", "-", "?",
		"\"\"", "'nan'"} {
		best := "nasbench101:best," + strings.Repeat(gap+",", 3) + gap
		table := open(t, "x.csv", []byte("arch,test_accuracy,params,madds,hash\n"+best+"\nnasbench101:2:1:,0.5,,,\n"))
		i, _ := table.Index(mustParse(t, "nasbench101:best"))
		require.True(t, math.IsNaN(table.Value(0, i)), "%q", gap)
		_, err := table.View(Query{})
		require.ErrorContains(t, err, "1 of 2 architectures lack", "a gap is not 0")
	}
}

// Matrices and operations as Python prints them.
func TestCSVMatrices(t *testing.T) {
	want := mustParse(t, "nasbench101:4:101101:02")
	rows := [][]string{{"0", "1", "0", "1"}, {"0", "0", "1", "0"}, {"0", "0", "0", "1"}, {"0", "0", "0", "0"}}
	matrix := func(zero, one, comma, open, shut string) string {
		var lines []string
		for _, r := range rows {
			lines = append(lines, open+strings.NewReplacer("0", zero, "1", one).Replace(strings.Join(r, comma))+shut)
		}
		return strings.Join(lines, comma)
	}
	matrices := []string{
		matrix("0", "1", "", "", ""), matrix("False", "True", ", ", "[", "]"), matrix("0.", "1.", " ", "[",
			"]\n"), matrix("0.0", "1.0", ", ", "(", ")"),
		"[" + matrix("False", " True", ", ", "[", "]") + "]", "array([" + matrix("0", "1", ", ", "[", "]") +
			"], dtype=int8)",
		"np.array([" + matrix("np.int64(0)", "np.int64(1)", ", ", "[", "]") + "])", "tensor([" +
			matrix("0.", "1.", ", ", "[", "]") + "], device='cuda:0')",
		"[" + matrix("np.False_", "np.True_", ", ", "[", "]") + "]",
	}
	operations := []string{
		"02", "[0, 2]", "[0. 2.]", "[-1, 0, 2, -2]", "np.array([0, 2])",
		"['input', 'conv3x3-bn-relu', 'maxpool3x3', 'output']",
		"[np.str_('input'), np.str_('conv3x3-bn-relu'), np.str_('maxpool3x3'), np.str_('output')]",
		"array(['conv3x3-bn-relu', 'maxpool3x3'], dtype='<U15')", "('conv3x3-bn-relu', 'maxpool3x3')",
	}
	for _, m := range matrices {
		for _, o := range operations {
			table := open(t, "x.csv", []byte("adjacency,operations,accuracy\n\""+m+"\",\""+o+"\",0.5\n"))
			require.Equal(t, want, table.Arch(0), "%s %s", m, o)
		}
	}
	text := open(t, "x.csv", []byte("arch,accuracy\nnp.str_('nasbench101:4:101101:02'),0.5\n"))
	require.Equal(t, want, text.Arch(0))
	json := open(t, "x.json", []byte(`[{"matrix":[[false,true],[0.0,0]],"ops":["input","output"],
		"n_params":882570.0,"test_accuracy":0.5,"validation_accuracy":null}]`))
	require.Equal(t, mustParse(t, "nasbench101:2:1:"), json.Arch(0))
}

// What may mean two things is refused, with what was seen and what to write.
func TestCSVRefusesWhatIsAmbiguous(t *testing.T) {
	const head = "arch,test_accuracy_percent,training_time,params\n"
	for name, c := range map[string]struct {
		text, query string
		line        int
		want        string
	}{
		"a fraction among percents": {head + "nasbench101:best,94.3,,\nnasbench101:2:1:,0.943,,\n", "", 3,
			`column "test_accuracy_percent": 0.943 beside 94.3 at line 2: if it is a fraction, write it in percent; ` +
				`if it is 0.943 %, say ?unit=percent`},
		"fractions called percent": {head + "nasbench101:best,0.943,,\nnasbench101:2:1:,0.8,,\n", "", 2,
			"no value is above 1: these are fractions, not percent; say ?unit=fraction"},
		"fractions said to be": {head + "nasbench101:best,0.943,,\nnasbench101:2:1:,0.8,,\n", "?unit=percent", 2,
			"these are fractions"},
		"percents said to be": {head + "nasbench101:best,94.3,,\n", "?unit=fraction", 2,
			"94.3 is outside of 0..1; if the column is in percent"},
		"more than all": {head + "nasbench101:best,943,,\n", "", 2, "9.43 is outside of 0..1"},
		"thousand or not": {head + "nasbench101:best,94.3,\"1,234\",\n", "", 2,
			`column "training_time": "1,234" may be 1.234 or 1234: write it without the comma`},
		"a count with a fraction": {head + "nasbench101:best,94.3,,8555530.5\n", "", 2,
			`column "params": "8555530.5" is not a count`},
		"a count with a point": {head + "nasbench101:best,94.3,,8.555\n", "", 2,
			`column "params": "8.555" is not a count`},
		"a count in millions": {head + "nasbench101:best,94.3,,32.4M\n", "", 2,
			`column "params": "32.4M" is not a number`},
		"groups of two": {head + "nasbench101:best,94.3,\"1,23,456\",\n", "", 2,
			`"1,23,456" is not a number; one that is not known is left empty`},
		"a matrix of halves": {"adjacency,operations,accuracy\n\"0 0.5 0 0\",,0.5\n", "", 2,
			`column "adjacency": "0.5" is neither 0 nor 1`},
		"two headers alike": {"Arch,ARCH,accuracy\n", "", 0, `two columns are named like "arch"`},
		"no separator fits": {"cell;top1\n", "", 0,
			"no column arch, nor columns adjacency and operations; " +
				"the header has cell, top1 (columns separated by ';')"},
		"a wrong line after a mark": {"sep=,\narch,accuracy\nnasbench101:best,x\n", "", 3,
			`column "accuracy": "x" is not a number`},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, "x.csv", []byte(c.text))
			_, _, err := openLabels(t.Context(), "table:"+path+c.query, Options{})
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, path)
			if c.line > 0 {
				require.ErrorContains(t, err, "line "+string(rune('0'+c.line))+" ")
			}
		})
	}
	const unknown = `[{"matrix":[[0,1],[0,0]],"ops":["input","output"],"test_accuracy":NaN}]`
	_, err := Open(t.Context(), file(t, "x.json", []byte(unknown)), Options{})
	require.ErrorContains(t, err, "write null for a number that is not known")

	both := open(t, "x.csv", []byte(head+"nasbench101:best,94.3,,\nnasbench101:2:1:,100,,\n"+
		"nasbench101:inception,1,,\nnasbench101:resnet,0,,\n"))
	require.Equal(t, 4, both.Len(), "1 % and 0 % are percents")
	_, view, err := openLabels(t.Context(), "table:"+file(t, "x.csv",
		[]byte(head+"nasbench101:best,94.3,,\nnasbench101:2:1:,0.9,,\n"))+"?unit=percent", Options{})
	require.NoError(t, err, "it was said")
	_, lowest, err := view.Best()
	require.NoError(t, err)
	require.InDelta(t, 0.943, lowest, 1e-12)
}

// A column a decision, in the order of any program, reads back every architecture of every space that knows such
// columns.
func TestCSVColumnADecision(t *testing.T) {
	for _, name := range []string{"nasbench201", "mobilenetv3", "mobilenetv3@w1.2", "darts", "darts@cifar10", "spos",
		"fairnas@w0.25,r32,s8",
		"file:../../docs/examples/nb201-like.yaml", "file:../../docs/examples/blocks.yaml"} {
		sp, err := space.Open(name)
		require.NoError(t, err)
		columns := sp.(space.Columned).Columns()
		s := philox.New(5, philox.PurposeTest, 0)
		text := strings.ToUpper(strings.Join(columns, "\t")) + "\ttest_accuracy\n"
		want := map[space.Arch]bool{}
		for len(want) < 50 {
			a := sp.Sample(s)
			if !want[a] {
				want[a] = true
				text += strings.Join(fieldsOf(t, a), "\t") + "\t0.5\n"
			}
		}
		path := file(t, "x.tsv", []byte(text))
		table, err := Open(t.Context(), path, Options{Space: spaceOf(t, name)})
		require.NoError(t, err)
		require.Equal(t, len(want), table.Len())
		for i := range table.Len() {
			require.True(t, want[table.Arch(i)])
		}
		_, err = Open(t.Context(), file(t, "x.tsv",
			[]byte(strings.Replace(text, strings.ToUpper(columns[1])+"\t", "other\t", 1))),
			Options{Space: spaceOf(t, name)})
		require.ErrorContains(t, err, "of the columns with a decision each it lacks "+columns[1])
		wrong := strings.Split(text, "\n")[:2]
		wrong[1] = "what" + wrong[1][strings.IndexByte(wrong[1], '\t'):]
		_, err = Open(t.Context(), file(t, "x.tsv", []byte(strings.Join(wrong, "\n"))),
			Options{Space: spaceOf(t, name)})
		require.ErrorContains(t, err, "line 2")
		require.ErrorContains(t, err, `"what"`)
	}
}

// fieldsOf writes an architecture in the columns of its space, whole numbers as pandas does where some are missing.
func fieldsOf(t *testing.T, a space.Arch) []string {
	switch a := a.(type) {
	case space.MobileNet:
		var fields []string
		kernels, expansions := a.Kernels(), a.Expansions()
		number := func(v int) string {
			if v == 0 {
				return "nan"
			}
			return string(rune('0'+v)) + ".0"
		}
		for u, d := range a.Depths() {
			fields = append(fields, number(d))
			for b := 4 * u; b < 4*u+4; b++ {
				fields = append(fields, number(expansions[b]), number(kernels[b]))
			}
		}
		return fields
	case space.Genotype:
		var fields []string
		normal, reduce := a.Cells()
		for _, op := range append(normal, reduce...) {
			fields = append(fields, op.Name, string(rune('0'+op.From)))
		}
		return fields
	case space.BlockChain:
		return strings.Split(strings.Trim(strings.ReplaceAll(fmt.Sprint(a.Blocks()), " ", ".0 "), "[]"), " ")
	case space.EdgeCell:
		var fields []string
		for _, op := range regexp.MustCompile(`(\w+)~`).FindAllStringSubmatch(a.String(), -1) {
			fields = append(fields, op[1])
		}
		return fields
	}
	_, text, _ := strings.Cut(a.String(), ":")
	var fields []string
	for i, place := range strings.Split(text, "|") {
		row := strings.Split(place, "+")
		for strings.HasPrefix(a.String(), "blocks:") && (i == 1 || i == 2) && len(row) < 3 {
			row = append(row, "")
		}
		fields = append(fields, row...)
	}
	return fields
}

// Any field is a number, a gap or an error that shows it; what Go prints is read as it is.
func TestNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom([]kind{anyNumber, fraction, count}).Draw(t, "kind")
		if rapid.Bool().Draw(t, "printed") {
			v := rapid.Float64().Draw(t, "v")
			for _, verb := range []byte{'g', 'e', 'f'} {
				got, percent, err := number(strconv.FormatFloat(v, verb, -1, 64), k)
				require.NoError(t, err)
				require.False(t, percent)
				require.Equal(t, v, got)
			}
			return
		}
		text := rapid.StringMatching(`[-+0-9., '%eN]{0,12}`).Draw(t, "text")
		v, _, err := number(strings.TrimSpace(text), k)
		if err == nil && v == v && !strings.ContainsAny(text, "eN") {
			digits := strings.Map(func(r rune) rune {
				if r < '0' || r > '9' {
					return -1
				}
				return r
			}, text)
			require.NotEmpty(t, digits)
		}
	})
}
