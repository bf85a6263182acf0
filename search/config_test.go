package search

import (
	"bytes"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/space"
)

func TestConfigSurvivesItsFile(t *testing.T) {
	for _, preset := range []string{PresetDefault, PresetPaper, PresetReleased} {
		c, err := Preset(preset)
		require.NoError(t, err)
		c.Labels, c.MaxMAdds, c.Seed, c.Budget = "table:x?run=1", 482_000_000, math.MaxUint64, 500
		text, err := c.Settings().YAML(map[string]string{"version": "1"})
		require.NoError(t, err)
		require.Contains(t, string(text), "\nrun:\n")
		back, err := ParseConfig(text)
		require.NoError(t, err)
		require.Equal(t, c, back)
		// Another value of any setting that matters is another identity.
		a, err := c.Identity(space.NASBench101{})
		require.NoError(t, err)
		c.Labels = "table:moved"
		b, err := c.Identity(space.NASBench101{})
		require.NoError(t, err)
		require.Equal(t, a, b, "where the file lies does not matter")
		c.Thompson = 0.123
		b, err = c.Identity(space.NASBench101{})
		require.NoError(t, err)
		require.NotEqual(t, a, b)
	}
	_, err := Preset("nope")
	require.ErrorContains(t, err, "default, paper, released")
}

func TestBadSettingsAreNamed(t *testing.T) {
	for flag, change := range map[string]func(c *Config){
		"--budget":         func(c *Config) { c.Budget = 1 },
		"--init 1: want 0": func(c *Config) { c.Init = 1 },
		"--propose":        func(c *Config) { c.Propose = "x" },
		"--reward":         func(c *Config) { c.Reward = "x" },
		"--baseline":       func(c *Config) { c.Baseline = "x" },
		"--thompson":       func(c *Config) { c.Thompson = math.NaN() },
		"--spread":         func(c *Config) { c.Spread = 1.5 },
		"--max-madds":      func(c *Config) { c.MaxMAdds = -1 },
		"--max-latency 1":  func(c *Config) { c.Latency, c.MaxLatency = "t.csv", 1e9 },
		"--max-latency: s": func(c *Config) { c.MaxLatency = 12 },
		"--max-latency -":  func(c *Config) { c.Latency, c.MaxLatency = "t.csv", -1 },
		"--max-latency N":  func(c *Config) { c.Latency, c.MaxLatency = "t.csv", math.NaN() },
		"--pareto-cost":    func(c *Config) { c.ParetoCost = "more watts" },
		"--pareto --pare":  func(c *Config) { c.ParetoCost, c.Pareto = "watts", true },
		"--max \"ms":       func(c *Config) { c.Max = []string{"ms<3"} },
		"--max \"params":   func(c *Config) { c.Max = []string{"params<=3"} },
		"--metric":         func(c *Config) { c.Metric.Name = "loss" },
		"--pareto-cost l":  func(c *Config) { c.ParetoCost = space.CostLatency },
		"--controller-lr":  func(c *Config) { c.ControllerLR = 0 },
		"--explore-weight": func(c *Config) { c.ExploreWeight = -1 },
		"--iterations":     func(c *Config) { c.Iterations = -1 },
		"--validation":     func(c *Config) { c.Validation = 5 },
		"--budgets-before": func(c *Config) { c.Before = []int{500} },
		"--method":         func(c *Config) { c.Method = ReleasedName },
	} {
		c, err := Preset(PresetDefault)
		require.NoError(t, err)
		require.NoError(t, c.Check())
		change(&c)
		require.ErrorContains(t, c.Check(), flag)
	}
}

// More budget is the same search, whose budgets before are told in its file.
func TestMoreBudget(t *testing.T) {
	c, err := Preset(PresetDefault)
	require.NoError(t, err)
	more := c.More(500).More(600)
	require.Equal(t, []int{423, 500, 600}, more.Budgets())
	require.NoError(t, more.Check())
	text, err := more.Settings().YAML(nil)
	require.NoError(t, err)
	require.Contains(t, string(text), "budgets-before: [423, 500]\n")
	back, err := ParseConfig(text)
	require.NoError(t, err)
	require.Equal(t, more, back)
	a, err := c.Identity(space.NASBench101{})
	require.NoError(t, err)
	b, err := more.Identity(space.NASBench101{})
	require.NoError(t, err)
	require.Equal(t, a, b)
}

func FuzzParseConfig(f *testing.F) {
	c, err := Preset(PresetPaper)
	require.NoError(f, err)
	text, err := c.Settings().YAML(nil)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte("preset: released\nbudget: 9\n"))
	f.Add([]byte("a: [1, {"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		text, err := c.Settings().YAML(nil)
		require.NoError(t, err)
		back, err := ParseConfig(text)
		require.NoError(t, err)
		again, err := back.Settings().YAML(nil)
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, again))
	})
}
