package trainer

import (
	"bytes"
	"encoding/json"
	"math"
)

// Real is a number that may be none: NaN or infinite where something was computed and is not finite, NaN where there
// is nothing to compute it from. In JSON, which has no such numbers, it is null then; null is read as NaN.
type Real float64

// MarshalJSON writes a number or null.
func (r Real) MarshalJSON() ([]byte, error) {
	if !finite(float64(r)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(r))
}

// UnmarshalJSON reads them.
func (r *Real) UnmarshalJSON(text []byte) error {
	if bytes.Equal(text, []byte("null")) {
		*r = Real(math.NaN())
		return nil
	}
	return json.Unmarshal(text, (*float64)(r))
}
