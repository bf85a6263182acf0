package trainer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/data"
)

// Nodes are the machines that train one network together, as one of them sees them: package cluster has them. Each
// holds an aligned part of every batch's shards, draws the images of that part, and divides it among its devices. All
// make the same updates; node 0 alone has the run's folder. Sum, Gather and Broadcast are made by all nodes in the same
// order, so whatever leads to one is the same everywhere.
type Nodes interface {
	// Node is which of how many nodes this one is.
	Node() (me, all int)
	Name(node int) string // for people
	// Sum adds up in place what the nodes have, in the order of a balanced tree.
	Sum(values []float32) error
	// Gather gives every node what each of them says, by node.
	Gather(mine []byte) ([][]byte, error)
	// Broadcast gives every node what node 0 has.
	Broadcast(data []byte) ([]byte, error)
	// Interrupt tells all nodes that one of them is to end; Interrupted is closed where one is.
	Interrupt()
	Interrupted() <-chan struct{}
}

// node is which of how many nodes a training computes on.
func (d Deps) node() (me, all int) {
	if d.Nodes == nil {
		return 0, 1
	}
	return d.Nodes.Node()
}

// within is a context that ends, too, when another node is to end.
func (c *course) within(ctx context.Context) (context.Context, func()) {
	if c.Nodes == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	quiet := context.AfterFunc(ctx, c.Nodes.Interrupt)
	go func() {
		select {
		case <-c.Nodes.Interrupted():
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		quiet()
		cancel()
	}
}

// word is what a node says where all are to do the same thing next.
type word struct {
	Stop    bool // it was told to end
	Due     bool // of node 0: it is time for a checkpoint
	Failed  string
	Corrupt bool           // Failed is about images that cannot be read
	Found   []data.Corrupt // images that were left out

	Measured []measured // of its part of evaluations
}

// say gives every node the word of each.
func (c *course) say(mine word) (all []word, err error) {
	text, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	texts, err := c.Nodes.Gather(text)
	if err != nil {
		return nil, err
	}
	all = make([]word, len(texts))
	for i, text := range texts {
		if err := json.Unmarshal(text, &all[i]); err != nil {
			return nil, fmt.Errorf("the word of %s: %w", c.Nodes.Name(i), err)
		}
	}
	return all, nil
}

// meet says what became of a part of the work, and returns the error that all nodes go on with: that of the first node
// that has one, or that of ctx where one was told to end, or nil.
func (c *course) meet(ctx context.Context, mine word, failed error) ([]word, error) {
	if failed != nil {
		mine.Failed, mine.Corrupt = failed.Error(), data.IsCorrupt(failed)
	}
	all, err := c.say(mine)
	if err != nil {
		return nil, err
	}
	me, _ := c.Nodes.Node()
	if i := slices.IndexFunc(all, func(w word) bool { return w.Failed != "" }); i >= 0 {
		c.heard()
		switch w := all[i]; {
		case i == me:
			return all, failed
		case w.Corrupt:
			return all, &data.UnreadableError{Name: c.Nodes.Name(i), Err: errors.New(w.Failed)}
		default:
			return all, fmt.Errorf("%s: %s", c.Nodes.Name(i), w.Failed)
		}
	}
	if slices.ContainsFunc(all, func(w word) bool { return w.Stop }) {
		c.Nodes.Interrupt()
		<-ctx.Done()
		return all, ctx.Err()
	}
	return all, nil
}

// heard ends when all nodes know of an error that all have, so that none learns of another that has gone before.
func (c *course) heard() { _, _ = c.Nodes.Gather(nil) }

// together has every node do something of its own, which leads to the same state: all go on when all have done it. A
// node that was told to end before it had has all of them end with the state before.
func (c *course) together(ctx context.Context, do func() error) error {
	if c.Nodes == nil {
		return do()
	}
	before := c.state
	err := do()
	stop := ended(ctx, err)
	if stop {
		err = nil
	}
	if errors.As(err, new(agreed)) {
		c.state = before
		return err
	}
	if _, err = c.meet(ctx, word{Stop: stop}, err); err != nil {
		c.state = before
	}
	return err
}

// takeBatch takes the next batch of a feed of a set, whose images are there on all nodes, each its part. The nodes end
// here, before an update has changed anything, where one of them was told to. Where nothing of the update has been done
// yet, between is true, node 0 may have all leave a checkpoint.
func (c *course) takeBatch(ctx context.Context, f *feed, set *data.Set, between bool) (*data.Batch, error) {
	if c.Nodes == nil {
		b, err := f.take(ctx)
		if err == nil {
			err = c.tally.Add(c.Data.Corrupt(set, b.Corrupt))
		}
		return b, err
	}
	mine := word{Stop: ctx.Err() != nil, Due: between && c.CheckpointEvery == 0 && c.due(false)}
	b, err := f.take(context.WithoutCancel(ctx))
	if err == nil {
		mine.Found = c.Data.Corrupt(set, b.Corrupt)
	}
	all, err := c.meet(ctx, mine, err)
	if err != nil {
		return nil, err
	}
	for _, w := range all {
		if err := c.tally.Add(w.Found); err != nil {
			return nil, err
		}
	}
	if all[0].Due {
		err = c.checkpoint()
	}
	return b, err
}

// dueOnAll is due, as node 0 sees it. Within an epoch it says so with the next batch.
func (c *course) dueOnAll(epochEnds bool) (bool, error) {
	if c.Nodes == nil || c.CheckpointEvery > 0 {
		return c.due(epochEnds), nil
	}
	if !epochEnds {
		return false, nil
	}
	all, err := c.say(word{Due: c.due(true)})
	return err == nil && all[0].Due, err
}

// greeting is what must be the same on all nodes, and what node 0 decides for them.
type greeting struct {
	Ident           identity
	CheckpointEvery int
}

// greet compares what the nodes are about to do. A difference is an error on all of them.
func (c *course) greet() error {
	if c.Nodes == nil {
		return nil
	}
	text, err := json.Marshal(greeting{c.ident, c.CheckpointEvery})
	if err != nil {
		return err
	}
	texts, err := c.Nodes.Gather(text)
	if err != nil {
		return err
	}
	all := make([]greeting, len(texts))
	for i, text := range texts {
		if err := json.Unmarshal(text, &all[i]); err != nil {
			return fmt.Errorf("the greeting of %s: %w", c.Nodes.Name(i), err)
		}
		there := fmt.Sprintf("on node %d", i)
		if other := all[0].Ident.differences(all[i].Ident, "on node 0", there); other != nil {
			return fmt.Errorf("%s and %s are about to train different things. Different are: %s", c.Nodes.Name(0),
				c.Nodes.Name(i), strings.Join(other, "; "))
		}
	}
	c.CheckpointEvery = all[0].CheckpointEvery
	return nil
}

// latest is the checkpoint that the run goes on from, which node 0 reads for all; nil where there is none.
func (c *course) latest() (s *snapshot, err error) {
	if c.Dir != "" {
		if s, err = readSnapshot(c.Dir); errors.Is(err, ErrNoCheckpoint) {
			err = nil
		}
	}
	if err != nil || c.Nodes == nil {
		return s, err
	}
	var text []byte
	if s != nil {
		rest, err := s.encode()
		if err == nil {
			text, err = rest()
		}
		if err != nil {
			return nil, err
		}
	}
	if text, err = c.Nodes.Broadcast(text); err != nil || s != nil || len(text) == 0 {
		return s, err
	}
	return decodeSnapshot(text)
}

// ending gives all nodes the result of a training that has ended in node 0's folder.
func (c *course) ending(ended bool, result any) (bool, error) {
	if c.Nodes == nil {
		return ended, nil
	}
	var text []byte
	var err error
	if ended {
		if text, err = json.Marshal(result); err != nil {
			return false, err
		}
	}
	if text, err = c.Nodes.Broadcast(text); err != nil || len(text) == 0 || ended {
		return ended, err
	}
	return true, json.Unmarshal(text, result)
}

// shareValues gives all nodes the values that node 0 has.
func (c *course) shareValues(values [][]float32) ([][]float32, error) {
	if c.Nodes == nil {
		return values, nil
	}
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(values); err != nil {
		return nil, err
	}
	all, err := c.Nodes.Broadcast(text.Bytes())
	if err == nil {
		values = nil
		err = gob.NewDecoder(bytes.NewReader(all)).Decode(&values)
	}
	return values, err
}

// agreeNodes tells whether all nodes have the same parameters and memories of gradients, as they must, by a hash.
func (c *course) agreeNodes() error {
	if c.Nodes == nil {
		return nil
	}
	sum := sha256.New()
	s := &c.state
	fmt.Fprintln(sum, s.Step, s.Update, s.Rate, s.Skipped, s.InARow, s.Loss, s.Losses)
	updates := make([]int32, 1)
	c.o.updates.ReadI32(0, updates)
	fmt.Fprintln(sum, updates)
	for _, b := range c.ranks[0].buffers() {
		sum.Write(littleEndian(b.Values()))
	}
	all, err := c.Nodes.Gather(sum.Sum(nil))
	if err != nil {
		return err
	}
	for i, other := range all {
		if string(other) != string(all[0]) {
			return fmt.Errorf("after update %d %s has other weights than %s (%.12s, %.12s), though both made the same "+
				"updates: one of them does not compute the same thing twice", s.Update, c.Nodes.Name(i),
				c.Nodes.Name(0), hex.EncodeToString(other), hex.EncodeToString(all[0]))
		}
	}
	return nil
}

// ofAll puts the numbers of the other nodes beside those of this one, by node; each has as many.
func (c *course) ofAll(numbers *[]float64) error {
	if c.Nodes == nil {
		return nil
	}
	mine, err := binary.Append(nil, binary.LittleEndian, *numbers)
	if err != nil {
		return err
	}
	all, err := c.Nodes.Gather(mine)
	if err != nil {
		return err
	}
	text := bytes.Join(all, nil)
	*numbers = make([]float64, len(text)/8)
	return binary.Read(bytes.NewReader(text), binary.LittleEndian, *numbers)
}

// firstFound is what the first node that has found something has.
func (c *course) firstFound(where string) (string, error) {
	if c.Nodes == nil {
		return where, nil
	}
	all, err := c.Nodes.Gather([]byte(where))
	if err != nil {
		return "", err
	}
	texts := make([]string, len(all))
	for i, text := range all {
		texts[i] = string(text)
	}
	return cmp.Or(texts...), nil
}
