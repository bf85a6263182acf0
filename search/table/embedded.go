package table

import (
	_ "embed"
	"maps"
	"slices"
)

// shapes91 is described in tables/README.md.
//
//go:embed tables/shapes91.csv
var shapes91 []byte

// embedded are the tables that come with the program, CSV files, by name.
var embedded = map[string][]byte{"shapes91": shapes91}

// Embedded lists the names of the tables that come with the program. A file of such a name is opened as ./NAME.
func Embedded() []string { return slices.Sorted(maps.Keys(embedded)) }
