package ledger

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/search/space"
)

func TestMetricTexts(t *testing.T) {
	for text, want := range map[string]Metric{
		"":                             {},
		"perplexity:minimize":          {"perplexity", Minimize, ""},
		"throughput:maximize:images/s": {"throughput", Maximize, "images/s"},
		"a@1:minimize:ms: per image":   {"a@1", Minimize, "ms: per image"},
		"top-5/error.2_x:maximize:":    {"top-5/error.2_x", Maximize, ""},
	} {
		var m Metric
		require.NoError(t, m.Set(text))
		require.Equal(t, want, m)
		var again Metric
		require.NoError(t, again.Set(m.String()))
		require.Equal(t, m, again)
		written, err := yaml.Marshal(m)
		require.NoError(t, err)
		if !m.IsZero() {
			require.NoError(t, yaml.Unmarshal(written, &again))
			require.Equal(t, m, again)
		}
	}
	for _, text := range []string{"perplexity", "perplexity:", "perplexity:less", ":minimize", "a b:minimize",
		"accuracy:maximize", "1st:minimize"} {
		require.Error(t, new(Metric).Set(text), text)
	}
	for _, text := range []string{"{name: a}", "{name: a, direction: minimize, units: x}", "[a]", "a"} {
		require.Error(t, yaml.Unmarshal([]byte(text), new(Metric)), text)
	}
	b, err := ParseBound(" latency_ms <= -1.5e1")
	require.NoError(t, err)
	require.Equal(t, Bound{"latency_ms", -15}, b)
	for _, text := range []string{"latency", "latency<=", "<=3", "latency<=NaN", "latency<=inf", "latency>=3",
		"a b<=3"} {
		_, err := ParseBound(text)
		require.Error(t, err, text)
	}
}

// Whatever is within bounds is better than what is not, more within is better by its value, further outside is worse;
// and what networks learn has the same order at a scale of its own.
func TestScoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{}.As(Metric{"loss", rapid.SampledFrom([]string{Minimize, Maximize}).Draw(t, "direction"), ""})
		bounds := []Bound{{"ms", float64(rapid.IntRange(-5, 5).Draw(t, "most"))}, {"mb", 3}}
		var labels []Label
		excess := func(l Label) float64 {
			return max(0, (l.Note.Metrics["ms"]-bounds[0].Most)/max(math.Abs(bounds[0].Most), 1e-9)) +
				max(0, (l.Note.Metrics["mb"]-3)/3)
		}
		for range rapid.IntRange(1, 8).Draw(t, "n") {
			l := Label{Value: float64(rapid.IntRange(-9, 9).Draw(t, "value")), Note: Note{Metrics: map[string]float64{
				"ms": float64(rapid.IntRange(-6, 6).Draw(t, "ms")), "mb": float64(rapid.IntRange(0, 6).Draw(t, "mb"))}}}
			var err error
			l.Score, err = score(f, bounds, l)
			if err != nil {
				t.Fatal(err)
			}
			if l.Fits() != (excess(l) == 0) {
				t.Fatalf("%+v", l)
			}
			labels = append(labels, l)
		}
		learned := Scores(labels)
		for i, a := range labels {
			for j, b := range labels {
				better := false
				switch {
				case a.Fits() && b.Fits():
					better = a.Value > b.Value
					if f.Direction == Minimize {
						better = a.Value < b.Value
					}
				case !a.Fits() && !b.Fits():
					better = excess(a) < excess(b)*(1-1e-9)
				default:
					better = a.Fits()
				}
				if better && !(a.Score > b.Score && learned[i] > learned[j]) {
					t.Fatalf("%+v and %+v: %v", a, b, learned)
				}
				if math.Abs(learned[i]) > 100 {
					t.Fatalf("%v", learned)
				}
			}
		}
	})
}

// noted is a source of another metric that says more than its labels.
type noted struct {
	fake
	more map[string]float64
}

func (n noted) Facts() Facts         { return Facts{Source: "fake"}.As(Metric{"loss", Minimize, "nats"}) }
func (n noted) Note(space.Arch) Note { return Note{Metrics: n.more} }

func TestAnotherMetricInAFile(t *testing.T) {
	cells, ctx, path := some(4), context.Background(), filepath.Join(t.TempDir(), "ledger.jsonl")
	source := noted{fake{value: func(a space.Arch) float64 { return float64(a.Cost().Params) - 5e6 }},
		map[string]float64{"ms": 3}}
	l, err := Create(path, &source, 4, Bound{"ms", 3})
	require.NoError(t, err)
	_, err = l.Query(ctx, cells[:2], "random", 0)
	require.NoError(t, err)
	source.more = map[string]float64{"ms": 3.1}
	_, err = l.Query(ctx, cells[2:], "random", 1)
	require.NoError(t, err)
	p, err := l.Position()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Regexp(t, `^\{"n":1,"round":0,"arch":"[^"]*","hash":"[^"]*","value":-?\d+,"source":"fake","metric":"loss",`+
		`"direction":"minimize","unit":"nats","metrics":\{"ms":3\},"proposer":"random"\}\n`, string(text))
	back, err := Resume(ctx, path, &source, 4, sp, p, nil, Bound{"ms", 3})
	require.NoError(t, err)
	for i, l := range l.Labels()[:2] {
		require.Equal(t, l.Score, back.Labels()[i].Score)
		require.Equal(t, l.Note, back.Labels()[i].Note)
	}
	best, _ := back.Best()
	require.Equal(t, min(l.Labels()[0].Value, l.Labels()[1].Value), best.Value, "the least of those within the bound")
	require.NoError(t, back.Close())
	read, err := Read(path, sp)
	require.NoError(t, err)
	require.Equal(t, l.Labels()[3].Note, read[3].Note)
	// A bound of what nobody says, and numbers that are none.
	_, err = Resume(ctx, path, &source, 4, sp, p, nil, Bound{"mb", 3})
	require.ErrorContains(t, err, "line 1: mb is not said, which --max mb<=3 limits")
	for _, v := range []float64{math.NaN(), math.Inf(-1), 1e300} {
		source.value = func(space.Arch) float64 { return v }
		_, err = New(&source, 1).Query(ctx, cells[:1], "random", 0)
		require.ErrorContains(t, err, "want a number")
	}
}
