package zoo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// naming gives the nodes of a network the names that their modules have in a program whose files of weights are used
// elsewhere.
type naming func(net *nn.Network)

// rename sets the modules of all nodes with variables; name gets a node's path in parts.
func rename(net *nn.Network, name func(path []string) string) {
	for i := range net.Nodes {
		switch net.Nodes[i].Op.(type) {
		case nn.Conv, nn.Linear, nn.BatchNorm:
			net.Nodes[i].Module = name(strings.Split(net.Nodes[i].Name, "/"))
		}
	}
}

// numbered is the number at the end of a word such as "block12".
func numbered(word, prefix string) (int, bool) {
	digits, found := strings.CutPrefix(word, prefix)
	n, err := strconv.Atoi(digits)
	return n, found && err == nil
}

// Names in timm's blocks (timm/models/_efficientnet_blocks.py): InvertedResidual, and DepthwiseSeparableConv where
// there is no expansion.
var (
	timmInverted = map[string]string{
		"expand/conv": "conv_pw", "expand/bn": "bn1", "depthwise/conv": "conv_dw", "depthwise/bn": "bn2",
		"se/reduce": "se.conv_reduce", "se/expand": "se.conv_expand",
		"project/conv": "conv_pwl", "project/bn": "bn3",
	}
	timmSeparable = map[string]string{
		"depthwise/conv": "conv_dw", "depthwise/bn": "bn1", "se/reduce": "se.conv_reduce",
		"se/expand": "se.conv_expand", "project/conv": "conv_pw", "project/bn": "bn2",
	}
)

// timm names the modules of a chain as timm does, which counts blocks within stages of the given lengths. The outer
// names are those of its EfficientNets; those of MobileNetV3, whose head is a stage and whose features are the head,
// differ.
func timm(v3 bool, stages ...int) naming {
	outer := map[string]string{"stem/conv": "conv_stem", "stem/bn": "bn1", "head/conv": "conv_head", "head/bn": "bn2",
		"classifier": "classifier"}
	if v3 {
		outer["head/conv"], outer["head/bn"] = fmt.Sprintf("blocks.%d.0.conv", len(stages)),
			fmt.Sprintf("blocks.%d.0.bn1", len(stages))
		outer["features/conv"] = "conv_head"
	}
	return func(net *nn.Network) {
		rename(net, func(path []string) string {
			n, isBlock := numbered(path[0], "block")
			if !isBlock {
				return outer[strings.Join(path, "/")]
			}
			inner := timmInverted
			if net.Find(path[0]+"/expand/conv") < 0 {
				inner = timmSeparable
			}
			n--
			for stage, blocks := range stages {
				if n < blocks {
					return fmt.Sprintf("blocks.%d.%d.%s", stage, n, inner[strings.Join(path[1:], "/")])
				}
				n -= blocks
			}
			return ""
		})
	}
}

// onceForAllBlock are names in the blocks of once-for-all and of ProxylessNAS (mit-han-lab).
var onceForAllBlock = map[string]string{
	"expand/conv": "inverted_bottleneck.conv", "expand/bn": "inverted_bottleneck.bn",
	"depthwise/conv": "depth_conv.conv", "depthwise/bn": "depth_conv.bn",
	"se/reduce": "depth_conv.se.fc.reduce", "se/expand": "depth_conv.se.fc.expand",
	"project/conv": "point_linear.conv", "project/bn": "point_linear.bn",
}

// mitHanLab names the modules of a chain as once-for-all and ProxylessNAS do: a block is called block, the head head,
// and blocks that are no more than a shortcut have the numbers of shortcuts.
func mitHanLab(block, head string, shortcuts ...int) naming {
	outer := map[string]string{
		"stem/conv": "first_conv.conv", "stem/bn": "first_conv.bn", "head/conv": head + ".conv", "head/bn": head +
			".bn", "features/conv": "feature_mix_layer.conv",
		"classifier": "classifier.linear",
	}
	return func(net *nn.Network) {
		rename(net, func(path []string) string {
			n, isBlock := numbered(path[0], "block")
			if !isBlock {
				return outer[strings.Join(path, "/")]
			}
			at := -1
			for ; n > 0; n-- {
				for at++; slices.Contains(shortcuts, at); at++ {
				}
			}
			return fmt.Sprintf("blocks.%d.%s.%s", at, block, onceForAllBlock[strings.Join(path[1:], "/")])
		})
	}
}

var (
	onceForAllNames = mitHanLab("conv", "final_expand_layer")
	proxylessNames  = func(shortcuts []int) naming {
		return mitHanLab("mobile_inverted_conv", "feature_mix_layer", shortcuts...)
	}
)

// torchvisionShuffle names the modules of ShuffleNet-V2 as torchvision does (torchvision/models/shufflenetv2.py).
func torchvisionShuffle(net *nn.Network) {
	outer := map[string]string{"stem/conv": "conv1.0", "stem/bn": "conv1.1", "head/conv": "conv5.0",
		"head/bn": "conv5.1", "classifier": "fc"}
	inner := map[string]string{
		"pass/depthwise/conv": "branch1.0", "pass/depthwise/bn": "branch1.1", "pass/project/conv": "branch1.2",
		"pass/project/bn": "branch1.3",
		"expand/conv":     "branch2.0", "expand/bn": "branch2.1", "depthwise/conv": "branch2.3",
		"depthwise/bn": "branch2.4", "project/conv": "branch2.5", "project/bn": "branch2.6",
	}
	rename(net, func(path []string) string {
		if _, isStage := numbered(path[0], "stage"); !isStage {
			return outer[strings.Join(path, "/")]
		}
		n, _ := numbered(path[1], "block")
		return fmt.Sprintf("%s.%d.%s", path[0], n-1, inner[strings.Join(path[2:], "/")])
	})
}

// torchvisionChain names the modules of a chain as a program of torchvision does: the layers around the blocks, and
// the blocks by their numbers within stages and by whether they expand.
func torchvisionChain(outer map[string]string, block func(stage, at int, expands bool, layer string) string,
	stages ...int) naming {
	return func(net *nn.Network) {
		rename(net, func(path []string) string {
			n, isBlock := numbered(path[0], "block")
			if !isBlock {
				return outer[strings.Join(path, "/")]
			}
			stage := 0
			for n--; n >= stages[stage]; stage++ {
				n -= stages[stage]
			}
			return block(stage, n, net.Find(path[0]+"/expand/conv") >= 0, strings.Join(path[1:], "/"))
		})
	}
}

// numberedLayers are the layers of a block in their order, each of which is a module of its own with a convolution
// and a batch norm as 0 and 1.
func numberedLayers(layer string, expands, gated bool) string {
	order := []string{"depthwise", "project"}
	if gated {
		order = slices.Insert(order, 1, "se")
	}
	if expands {
		order = slices.Insert(order, 0, "expand")
	}
	of, part, _ := strings.Cut(layer, "/")
	return fmt.Sprintf("%d.%s", slices.Index(order, of), map[string]string{"conv": "0", "bn": "1", "reduce": "fc1",
		"expand": "fc2"}[part])
}

// Names in torchvision's models (torchvision/models/mobilenetv2.py, mobilenetv3.py, mnasnet.py, efficientnet.py).
var (
	torchvisionV2 = torchvisionChain(
		map[string]string{"stem/conv": "features.0.0", "stem/bn": "features.0.1", "head/conv": "features.18.0",
			"head/bn": "features.18.1", "classifier": "classifier.1"},
		func(_, at int, expands bool, layer string) string {
			names := map[string]string{"depthwise/conv": "0.0", "depthwise/bn": "0.1", "project/conv": "1",
				"project/bn": "2"}
			if expands {
				names = map[string]string{"expand/conv": "0.0", "expand/bn": "0.1", "depthwise/conv": "1.0",
					"depthwise/bn": "1.1", "project/conv": "2", "project/bn": "3"}
			}
			return fmt.Sprintf("features.%d.conv.%s", at+1, names[layer])
		}, 17)
	torchvisionMnasNet = torchvisionChain(
		map[string]string{"stem/conv": "layers.0", "stem/bn": "layers.1", "head/conv": "layers.14",
			"head/bn": "layers.15", "classifier": "classifier.1"},
		func(stage, at int, _ bool, layer string) string {
			if stage == 0 { // its layers stand among the network's
				return "layers." + map[string]string{"depthwise/conv": "3", "depthwise/bn": "4", "project/conv": "6",
					"project/bn": "7"}[layer]
			}
			return fmt.Sprintf("layers.%d.%d.layers.%s", stage+7, at, map[string]string{"expand/conv": "0",
				"expand/bn": "1", "depthwise/conv": "3", "depthwise/bn": "4",
				"project/conv": "6", "project/bn": "7"}[layer])
		}, 1, 3, 3, 3, 2, 4, 1)
	torchvisionEfficient = torchvisionChain(
		map[string]string{"stem/conv": "features.0.0", "stem/bn": "features.0.1", "head/conv": "features.8.0",
			"head/bn": "features.8.1", "classifier": "classifier.1"},
		func(stage, at int, expands bool, layer string) string {
			return fmt.Sprintf("features.%d.%d.block.%s", stage+1, at, numberedLayers(layer, expands, true))
		}, 1, 2, 2, 3, 3, 4, 1)
)

// torchvisionV3 names the modules of a MobileNetV3 of some blocks, whose features are a linear layer there.
func torchvisionV3(blocks int) naming {
	head := fmt.Sprintf("features.%d", blocks+1)
	return func(net *nn.Network) {
		torchvisionChain(
			map[string]string{"stem/conv": "features.0.0", "stem/bn": "features.0.1", "head/conv": head + ".0",
				"head/bn": head + ".1", "features/conv": "classifier.0", "classifier": "classifier.3"},
			func(_, at int, expands bool, layer string) string {
				gated := net.Find(fmt.Sprintf("block%d/se/reduce", at+1)) >= 0
				return fmt.Sprintf("features.%d.block.%s", at+1, numberedLayers(layer, expands, gated))
			}, blocks)(net)
		net.Nodes[net.Find("features/conv")].Vector = true
	}
}

// dartsNames names the modules of DARTS's networks as quark0/darts does (cnn/model.py, cnn/operations.py): modules
// without names count from 0, and those without variables count too.
func dartsNames(net *nn.Network) {
	outer := map[string]string{
		"stem/first/conv": "stem0.0", "stem/first/bn": "stem0.1", "stem/second/conv": "stem0.3",
		"stem/second/bn": "stem0.4", "stem/third/conv": "stem1.1",
		"stem/third/bn": "stem1.2", "stem/conv": "stem.0", "stem/bn": "stem.1", "classifier": "classifier",
		"auxiliary/first/conv": "auxiliary_head.features.2", "auxiliary/first/bn": "auxiliary_head.features.3",
		"auxiliary/second/conv": "auxiliary_head.features.5", "auxiliary/second/bn": "auxiliary_head.features.6",
		"auxiliary/classifier": "auxiliary_head.classifier",
	}
	inputs := map[string]string{"before/conv": "preprocess0.op.1", "before/bn": "preprocess0.op.2",
		"before/even": "preprocess0.conv_1", "before/odd": "preprocess0.conv_2",
		"last/conv": "preprocess1.op.1", "last/bn": "preprocess1.op.2"}
	operations := map[string]string{
		"first/depthwise": "op.1", "first/pointwise": "op.2", "first/bn": "op.3", "second/depthwise": "op.5",
		"second/pointwise": "op.6", "second/bn": "op.7",
		"depthwise": "op.1", "pointwise": "op.2", "row": "1", "column": "2", "even": "conv_1", "odd": "conv_2",
	}
	rename(net, func(path []string) string {
		cell, isCell := numbered(path[0], "cell")
		if !isCell {
			return outer[strings.Join(path, "/")]
		}
		module := fmt.Sprintf("cells.%d.", cell)
		n, isNode := numbered(path[1], "node")
		if !isNode {
			name := strings.Join(path[1:], "/")
			if name == "before/bn" && net.Find(path[0]+"/before/even") >= 0 {
				return module + "preprocess0.bn"
			}
			return module + inputs[name]
		}
		n = 2 * (n - 2)
		if path[2] == "right" {
			n++
		}
		name := operations[strings.Join(path[3:], "/")]
		if name == "" { // the batch norm of a single operation
			name = "op.3"
			switch prefix := strings.Join(path[:3], "/"); {
			case net.Find(prefix+"/even") >= 0:
				name = "bn"
			case net.Find(prefix+"/row") >= 0:
				name = "3"
			}
		}
		return fmt.Sprintf("%s_ops.%d.%s", module, n, name)
	})
}
