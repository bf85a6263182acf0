package main

import (
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// matchClasses builds the network of a file of weights with as many classes as these have, and matches the classes of
// images with them. names are those that the file names; nil: none.
func matchClasses(
	file *trainer.Weights, d *data.Dataset, images *data.Set, build func(classes int) (*nn.Network, error),
) (net *nn.Network, match *trainer.Matching, names []string, err error) {
	if names, err = file.Classes(); err != nil {
		return nil, nil, nil, err
	}
	outputs := 0
	if names == nil { // then the shapes of the weights say how many
		if net, err = build(len(d.Classes)); err != nil {
			return nil, nil, nil, err
		}
		outputs = file.Outputs(net)
	}
	if match, err = trainer.MatchClasses(names, outputs, d, images); err != nil {
		return nil, nil, nil, err
	}
	net, err = build(len(match.Network))
	return net, match, names, err
}
