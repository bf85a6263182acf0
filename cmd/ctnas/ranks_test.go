package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer"
)

// levelled is a device that has a level and nothing else.
type levelled struct {
	exec.Accelerator
	level string
}

func (l levelled) Level() string { return l.level }
func (levelled) Close() error    { return nil }

// Before a training's folder is taken, all of its devices can be opened and compute the same; what cannot be is told by
// the flag that is to blame.
func TestOpenRanks(t *testing.T) {
	exec.Register("levelled", func(name string, _ exec.Precision) (exec.Accelerator, error) {
		_, level, _ := strings.Cut(name, ":")
		if level == "none" {
			return nil, errors.New("there is no such device")
		}
		return levelled{level: level}, nil
	})
	two := trainer.RecipeDefaults()
	two.Shards = 2
	for device, c := range map[string]struct {
		ranks int
		check func(int) error
		said  string
		usage bool
	}{
		"levelled:a":        {0, two.CheckRanks, "", false},
		"levelled:a,a":      {0, two.CheckRanks, "", false},
		"levelled:a,none":   {0, two.CheckRanks, "there is no such device", false},
		"levelled:a,b":      {0, two.CheckRanks, "results would depend on which of them", false},
		"levelled:a,a,a":    {0, two.CheckRanks, "--shards 2: 3 devices cannot divide", true},
		"levelled:once":     {2, two.CheckRanks, "--ranks 2: divides the processor's threads", true},
		"levelled:one,more": {2, two.CheckRanks, "--ranks 2: divides the processor's threads", true},
		"cpu":               {2, two.CheckRanks, "", false},
	} {
		_, err := (&app{device: device, precision: string(exec.FP32), threads: 2}).openRanks(c.ranks, c.check)
		if c.said == "" {
			require.NoError(t, err, device)
			continue
		}
		require.ErrorContains(t, err, c.said, device)
		var usage usageError
		require.Equal(t, c.usage, errors.As(err, &usage), device)
	}
}

// A search trains its supernet on as many of its devices as the recipe has use for, the first ones.
func TestFittingDevices(t *testing.T) {
	for _, c := range []struct {
		device string
		shards int
		want   string
	}{
		{"cpu", 4, "cpu"}, {"cuda:3", 4, "cuda:3"}, {"cuda:3,1", 0, "cuda:3"}, {"cuda:3,1", 4, "cuda:3,1"},
		{"cuda:0,cuda:1,2", 4, "cuda:0,cuda:1"}, {"cuda:0,1,2,3", 2, "cuda:0,1"}, {"cuda:0,1,2,3", 8, "cuda:0,1,2,3"},
	} {
		device, l := exec.Config{Device: c.device}, trainer.Length{Shards: c.shards}
		require.Equal(t, c.want, device.First(l.Fitting(len(device.Each()))).Device)
	}
}
