package tensor

import "math"

// ActReference is an activation and its derivative at u.
func ActReference(act Act, u float64) (value, slope float64) {
	gate := math.Min(6, math.Max(0, u+3)) / 6
	inside := 0.0
	if u > -3 && u < 3 {
		inside = 1.0 / 6
	}
	switch act {
	case ReLU:
		if u > 0 {
			return u, 1
		}
		return 0, 0
	case ReLU6:
		if u > 0 && u < 6 {
			return u, 1
		}
		return math.Min(6, math.Max(0, u)), 0
	case HSwish:
		return u * gate, gate + u*inside
	case HSigmoid:
		return gate, inside
	case Swish:
		s := 1 / (1 + math.Exp(-u))
		return u * s, s * (1 + u*(1-s))
	case Sigmoid:
		s := 1 / (1 + math.Exp(-u))
		return s, s * (1 - s)
	case GELU:
		normal := math.Erfc(-u/math.Sqrt2) / 2
		return u * normal, normal + u*math.Exp(-u*u/2)/math.Sqrt(2*math.Pi)
	}
	return u, 1
}
