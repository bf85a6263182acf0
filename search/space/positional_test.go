package space

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A comparator looks at where operations stand by another way in spaces whose operations say it.
func TestSpacesWhoseOperationsSayWhereTheyStand(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"nasbench101": false, "nasbench101-v4": false, "nasbench201": true, "mobilenetv3@w1.2": true, "darts": true,
		"darts@cifar10": true, "spos": true, "fairnas": true,
		"file:../../docs/examples/nb201-like.yaml": true, "file:../../docs/examples/blocks.yaml": true,
	} {
		sp, err := Open(name)
		require.NoError(t, err)
		require.Equal(t, want, IsPositional(sp), name)
	}
}
