// Package names says what is meant by a name that nothing has.
package names

import (
	"fmt"
	"strings"
)

// mostMeant is how many names a message asks about.
const mostMeant = 3

// Unknown is the error that a name is none of those that are known: `unknown network "mobilenetv3_large"; did you
// mean mobilenetv3_large_1.0? known: …`. kind says what it should be the name of.
func Unknown(kind, name string, known []string) error {
	meant := Meant(name, known)
	if meant == "" {
		meant = ";"
	}
	return fmt.Errorf("unknown %s %.60q%s known: %s", kind, name, meant, strings.Join(known, ", "))
}

// Meant asks behind a name that nothing has whether a known one was meant: "; did you mean x or y?", empty where none
// is near.
func Meant(name string, known []string) string {
	meant := Near(name, known)
	if len(meant) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(meant, " or ") + "?"
}

// Near are the known names nearest to one, in their order: those that a third of its letters or fewer make of it by
// insertions, deletions, exchanges and swaps of neighbours (optimal string alignment), whatever their case. More than
// three that are equally near are none.
func Near(name string, known []string) (nearest []string) {
	const longest = 200 // of what is worth comparing
	if len(name) > longest {
		return nil
	}
	least := max(1, len(name)/3) + 1
	for _, k := range known {
		switch d := distance(strings.ToLower(name), strings.ToLower(k)); {
		case d < least:
			least, nearest = d, []string{k}
		case d == least && len(nearest) > 0:
			nearest = append(nearest, k)
		}
	}
	if len(nearest) > mostMeant {
		return nil
	}
	return nearest
}

// distance is the optimal string alignment distance of two texts, in bytes.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			same := 1
			if a[i] == b[j] {
				same = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+same)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
