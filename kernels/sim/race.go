//go:build race

package sim

// UnderRace tells that the race detector watches. It sees Go code alone, and tests leave the simulator out.
const UnderRace = true
