package trainer

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// A loss that is not finite is null in JSON and not a large number; null is none when it is read.
func TestReal(t *testing.T) {
	text, err := json.Marshal(Result{TrainLoss: []Real{1.5, Real(math.NaN())},
		Test: &Evaluation{Loss: Real(math.Inf(1))}})
	require.NoError(t, err)
	require.Contains(t, string(text), `"train_loss":[1.5,null]`)
	require.Contains(t, string(text), `"loss":null`)
	var back Result
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, Real(1.5), back.TrainLoss[0])
	require.True(t, math.IsNaN(float64(back.TrainLoss[1])) && math.IsNaN(float64(back.Test.Loss)))
	require.Error(t, json.Unmarshal([]byte(`"x"`), new(Real)))
}
