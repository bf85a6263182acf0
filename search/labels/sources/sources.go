// Package sources makes the sources of labels known that come with the program, beside tables: a line each.
package sources

import (
	_ "github.com/ctnas/ctnas/search/command"   // exec:
	_ "github.com/ctnas/ctnas/search/predictor" // predictor:
	_ "github.com/ctnas/ctnas/search/supernet"  // supernet:
	_ "github.com/ctnas/ctnas/search/trained"   // train:
	_ "github.com/ctnas/ctnas/search/zerocost"  // zero-cost:
)
