// Package search holds the settings of a search: what `ctnas search` has flags for, config.yaml writes and every method
// reads. Package run is the run that they are the settings of, packages below method the ways to search.
package search
