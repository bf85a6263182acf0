// Package guided is what searches have in common in which a comparator judges and a controller proposes: scores, the
// controller's updates, candidates for labels, and what the result says of them. Packages ctnas and released are two
// schedules of it.
package guided
