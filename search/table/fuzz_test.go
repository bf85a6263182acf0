package table

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/space"
)

// fuzzRead opens bytes as a foreign file and, where that succeeds, checks that the table is sound and survives the
// compact form.
func fuzzRead(t *testing.T, data []byte, columns Columns) {
	table, err := readTable(context.Background(), "fuzz", bytes.NewReader(data), int64(len(data)), space.NASBench101{},
		Options{Threads: 2, Columns: columns})
	if err != nil {
		var at *Error
		if !errors.As(err, &at) || !strings.HasPrefix(err.Error(), "fuzz: ") {
			t.Fatalf("an error that does not name the file: %v", err)
		}
		return
	}
	exercise(t, table)
	var stored bytes.Buffer
	if err := table.writeCTT(&stored, nil); err != nil {
		t.Fatal(err)
	}
	again, err := parseBytes(cellsInput("fuzz"), stored.Bytes())
	if err != nil {
		t.Fatalf("what was written is not read: %v", err)
	}
	exercise(t, again)
	for i := range table.Len() {
		for k := range table.Metrics() {
			a, b := table.Value(k, i), again.Value(k, i)
			if a != b && (a == a || b == b) {
				t.Fatalf("%v became %v", a, b)
			}
		}
	}
}

// exercise asks a table everything; errors are fine, panics are not.
func exercise(t *testing.T, table *Table) {
	if table.Len() == 0 || len(table.Metrics()) == 0 && table.format != "" {
		t.Fatal("an empty table")
	}
	for i := range table.Len() {
		a := table.Arch(i)
		if found, ok := table.Index(a); !ok || found != i && table.Arch(found) != a {
			t.Fatalf("row %d is found at %d", i, found)
		}
		_, _, _ = a.String(), a.Graph(), a.Cost()
	}
	for _, q := range []Query{{}, {Missing: MissingDrop, Diverged: DivergedDrop},
		{Run: 1, Split: "test", Missing: MissingDrop}} {
		if v, err := table.View(q); err == nil {
			v.Unseal()
			_ = v.Describe()
			i, _, err := v.Best()
			if err != nil {
				t.Fatal(err)
			}
			if rank, err := v.Rank(i); err != nil || rank != 1 {
				t.Fatalf("the best has rank %d: %v", rank, err)
			}
		}
	}
	for _, name := range table.Sections() {
		_, _, _ = table.Section(name)
	}
	_, _ = table.Info()
}

func FuzzTFRecord(f *testing.F) {
	whole := tfFile(someCells(2), 108)
	f.Add(whole)
	f.Add(whole[:len(whole)-7])
	f.Add(whole[:10])
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzRead(t, data, Columns{}) })
}

// FuzzTraining frames what it gets, so that its content is looked at.
func FuzzTraining(f *testing.F) {
	c := someCells(1)[0]
	f.Add(tfContent(c, 1, 108), tfContent(c, 2, 108))
	f.Add(tfContent(c, 1, 4), []byte(`["a",1,"b","c","d"]`))
	f.Add([]byte(`[]`), []byte(`null`))
	f.Fuzz(func(t *testing.T, a, b []byte) { fuzzRead(t, framed(a, b), Columns{}) })
}

func FuzzMetrics(f *testing.F) {
	whole := modelMetrics(7, evaluation(1, 2, 0.3, 0.4, 0.5))
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte{0x0b, 0x0b, 0x0c})
	f.Fuzz(func(t *testing.T, data []byte) {
		values, params, err := parseMetrics(data)
		if err != nil {
			return
		}
		if params < 0 {
			t.Fatalf("%d parameters", params)
		}
		for i, m := range tfMetrics {
			if err := checkValue(m.Name, values[i]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte("[" + goodItem + "]"))
	f.Add([]byte("[" + goodItem + `,{"matrix":[[0,1],[0,0]],"ops":["input","output"],"n_params":882570,` +
		`"validation_accuracy":0.5,"hash_":null}]`))
	f.Add([]byte(`[{"matrix":[[0,1`))
	f.Add([]byte(`[[[[[[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzRead(t, append([]byte("["), bytes.TrimPrefix(data, []byte("["))...), Columns{})
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("arch,test_accuracy,params\nnasbench101:best,0.5,32426634\n"), "", "")
	f.Add([]byte("adjacency,operations,validation_accuracy_run1_percent\n"+
		"101101,02,50\n\"[[0,1],[0,0]]\",\"input,output\",1\n"), "", "")
	f.Add([]byte("index,hash,n,adj,ops,test_correct_of_9984,params,flops\n"+
		"0,00005c142e6f48ac74fdcf73e3439874,7,100110100001001010101,02001,9197,8555530,1266914304\n"), "", "")
	f.Add([]byte("a,b\nnasbench101:best,1\n"), "a", "b")
	f.Add([]byte("\ufeffarch,acc\r\n\"nasbench101:2:1:\",\r\n"), "", "")
	f.Add([]byte("sep=;\r\nAdjacency;Operations;Test accuracy (%)\r\n[[0 1] [0 0]];;94,3 %\r\n;;\r\n"), "", "")
	f.Add([]byte("\xff\xfea\x00r\x00c\x00h\x00\t\x00a\x00c\x00c\x00\n\x00"), "", "")
	f.Add([]byte("arch\tacc\tparams\rnp.str_('nasbench101:2:1:')\tnan\t'882,570.0'\r"), "", "")
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}, "", "")
	f.Fuzz(func(t *testing.T, data []byte, arch, accuracy string) {
		fuzzRead(t, data, Columns{Arch: arch, Accuracy: accuracy})
	})
}

// FuzzCTT gets a header and what follows it, and makes the checksums right in every other case.
func FuzzCTT(f *testing.F) {
	text := "arch,test_accuracy_run1,training_time\nnasbench101:best,0.9,17.123456789\nnasbench101:inception,,2\n"
	table, err := readTable(context.Background(), "seed", strings.NewReader(text), int64(len(text)),
		space.NASBench101{}, Options{Threads: 1})
	if err != nil {
		f.Fatal(err)
	}
	var stored bytes.Buffer
	if err := table.writeCTT(&stored, []Section{{"forest", []byte("trees")}}); err != nil {
		f.Fatal(err)
	}
	good := stored.Bytes()
	f.Add(good, headerOf(good), true)
	f.Add(good, []byte(`{"space":"nasbench101","records":9007199254740993}`), true)
	f.Add(good[:len(good)-1], headerOf(good), false)
	f.Add([]byte(cttMagic), []byte(nil), false)
	f.Fuzz(func(t *testing.T, data, header []byte, repair bool) {
		if repair && len(data) >= cttFixed {
			data = withHeader(data, header)
		}
		table, err := parseBytes(cellsInput("fuzz"), data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fuzz: ") {
				t.Fatalf("an error that does not name the file: %v", err)
			}
			return
		}
		exercise(t, table)
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("table:x?run=1&split=validation&missing=drop")
	f.Add("table:x.csv?arch=a&accuracy=b&madds=c&judge_run=mean&diverged=keep&epochs=4")
	f.Fuzz(func(t *testing.T, text string) {
		path, q, err := ParseLabels(text)
		if err != nil {
			return
		}
		if path == "" || q.Run < RunMean || q.Run > 9 || q.Epochs < 0 || q.Epochs > maxEpoch {
			t.Fatalf("%q became %q and %+v", text, path, q)
		}
	})
}

// TestTinyFilesStaySmall reads files that claim to be large.
func TestTinyFilesStaySmall(t *testing.T) {
	if testing.Short() {
		t.Skip("100 MB: not with -short")
	}
	for name, data := range map[string][]byte{
		"a text of zeros, compressed": zipped(t, make([]byte, 24<<20)),
		"a line of 24 MB, compressed": zipped(t, append([]byte("arch,accuracy\n"),
			bytes.Repeat([]byte("x"), 24<<20)...)),
		"a JSON string of 24 MB": zipped(t, append([]byte(`[{"ops":["`), bytes.Repeat([]byte("x"), 24<<20)...)),
		"nested JSON lists":      zipped(t, bytes.Repeat([]byte("["), 24<<20)),
	} {
		allocated := testdata.Allocated(func() {
			_, err := readTable(context.Background(), "x", bytes.NewReader(data), int64(len(data)),
				space.NASBench101{}, Options{Threads: 1})
			if err == nil {
				t.Errorf("%s: no error", name)
			} else if len(err.Error()) > 2000 {
				t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
			}
		})
		if allocated > 12<<20 {
			t.Errorf("%s: %d bytes allocated", name, allocated)
		}
	}
}
