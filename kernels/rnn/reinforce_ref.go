package rnn

import "math"

// ReinforceReference is the update in plain Go: the gradients, and the log's mean reward, entropy and loss. score,
// opponent, bias, entropy and logp are the buffers' values. s becomes the state after the update.
func ReinforceReference(r Reinforce, score, opponent, bias, entropy, logp []float64, s *ReinforceState) (dlogp,
	dentropy []float64, reward, spread, loss float64) {
	n := float64(r.Batch)
	values, mean, square, scale, b := make([]float64, r.Batch), 0.0, 0.0, 1.0, 0.0
	for i := range values {
		p := 0.0
		for m := range r.Members {
			own, other := score[(m*r.Batch+i)*r.Heads:], opponent[m*r.Heads:]
			z := own[0] - other[0]
			if r.Heads == 2 {
				z = own[0] + other[1] + bias[m]
			}
			p += 1 / (1 + math.Exp(-z)) / float64(r.Members)
		}
		values[i] = p
		if r.Power != 0 {
			values[i] = math.Pow(p, r.Power)
		}
		reward += p / n
		spread += entropy[i] / n
		mean += values[i] / n
	}
	if r.Baseline > 0 {
		if s.Updates == 0 {
			s.Average = mean
		}
		b = s.Average
		s.Average = r.Baseline*s.Average + (1-r.Baseline)*mean
	}
	if r.Normalize {
		for _, v := range values {
			square += (v - b) * (v - b) / n
		}
		if s.Updates == 0 {
			s.Variance = square
		}
		s.Variance = 0.9*s.Variance + 0.1*square
		scale = 1 / math.Max(r.LeastDeviation, math.Sqrt(s.Variance))
	}
	weight := r.Entropy
	if r.Iterations > 0 {
		weight += (r.EntropyEnd - r.Entropy) * math.Min(1, float64(s.Updates)/float64(r.Iterations))
	}
	for i, v := range values {
		loss -= (v - b) * logp[i] / n
		dlogp = append(dlogp, -(v-b)*scale/n)
		dentropy = append(dentropy, -weight/n)
	}
	s.Updates++
	return dlogp, dentropy, reward, spread, loss
}
