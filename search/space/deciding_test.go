package space

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

// What a path has chosen is what is written, and always a choice that there is.
func TestChosen(t *testing.T) {
	for _, c := range []struct {
		space, text string
		want        []string // the first ones
	}{
		{"nasbench101", "nasbench101:5:1000100101:210", []string{"vertex1 maxpool3x3", "vertex2 conv1x1-bn-relu",
			"vertex3 conv3x3-bn-relu"}},
		{"darts", dartsV2, []string{"normal/node2/from0 sep_conv_3x3", "normal/node2/from1 sep_conv_3x3",
			"normal/node3/from0 sep_conv_3x3", "normal/node3/from1 sep_conv_3x3", "normal/node4/from1 sep_conv_3x3",
			"normal/node4/from0 skip_connect", "normal/node5/from0 skip_connect", "normal/node5/from2 dil_conv_3x3",
			"reduce/node2/from0 max_pool_3x3"}},
		{"spos", "spos:01230123012301230123", []string{"layer1 shuffle3", "layer2 shuffle5", "layer3 shuffle7",
			"layer4 xception", "layer5 shuffle3"}},
	} {
		sp := open(t, c.space).(Deciding)
		chosen, err := sp.Chosen(c.text)
		require.NoError(t, err)
		var got []string
		for _, choice := range chosen[:len(c.want)] {
			row := sp.Decisions()[choice.Row]
			got = append(got, row.Name+" "+row.Choices[choice.Choice])
		}
		require.Equal(t, c.want, got)
		_, err = sp.Chosen("none")
		require.Error(t, err)
	}
	s := philox.New(1, philox.PurposeTest, 0)
	for _, name := range []string{"nasbench101", "nasbench101-v4", "darts@cifar10", "spos@w0.25,r32,s8", "fairnas"} {
		sp := open(t, name).(Deciding)
		rows := sp.Decisions()
		seen := map[nn.Choice]bool{}
		for range 300 {
			chosen, err := sp.Chosen(sp.Sample(s).String())
			require.NoError(t, err)
			for _, c := range chosen {
				require.Less(t, c.Choice, len(rows[c.Row].Choices))
				seen[c] = true
			}
		}
		all := 0
		for _, r := range rows {
			all += len(r.Choices)
		}
		require.Greater(t, len(seen), all*9/10, name)
	}
}
