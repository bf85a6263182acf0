package table

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/search/space"
)

// operationDigits are the operations as the digits of space.NewCellFromDigits.
var operationDigits = map[string]byte{"conv3x3-bn-relu": '0', "conv1x1-bn-relu": '1', "maxpool3x3": '2'}

// cellOf makes a cell of an adjacency text and the names of the operations. The text is zeros and ones, either the
// strict upper triangle or the whole matrix, row by row; the names are those of all vertices, from input to output.
func cellOf(adjacency string, names []string) (space.Cell, error) {
	n := len(names)
	if n < 2 || names[0] != "input" || names[n-1] != "output" {
		return 0, fmt.Errorf("operations %.80q, want input first and output last", strings.Join(names, ","))
	}
	digits := make([]byte, n-2)
	for i, name := range names[1 : n-1] {
		digit, known := operationDigits[name]
		if !known {
			return 0, fmt.Errorf("unknown operation %.40q", name)
		}
		digits[i] = digit
	}
	return cellOfDigits(adjacency, string(digits))
}

// cellOfDigits does the same from a digit for each interior vertex.
func cellOfDigits(adjacency, digits string) (space.Cell, error) {
	n := len(digits) + 2
	if len(adjacency) != n*n {
		if triangle := n * (n - 1) / 2; len(adjacency) != triangle {
			return 0,
				fmt.Errorf("adjacency of %d digits for %d vertices, want %d (strict upper triangle) or %d (matrix)",
					len(adjacency), n, triangle, n*n)
		}
		return space.NewCellFromDigits(adjacency, digits)
	}
	triangle := make([]byte, 0, n*(n-1)/2)
	for from := range n {
		for to := range n {
			if to > from {
				triangle = append(triangle, adjacency[from*n+to])
			} else if adjacency[from*n+to] != '0' {
				return 0,
					fmt.Errorf("adjacency matrix holds %q at row %d, column %d: it must be strictly upper triangular",
						adjacency[from*n+to], from, to)
			}
		}
	}
	return space.NewCellFromDigits(string(triangle), digits)
}
