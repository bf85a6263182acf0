package trainer

import (
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/group"
)

// Sums that run beside the backward pass. On devices that copy from each other the program of a step is cut where a
// bucket of the gradient is whole, from its end on, and each rank has a second queue on its device. While the program
// goes on, these queues add up the bucket:
//
//	device  segment 0 | segment 1          | segment 2          | sum of the rest | update
//	                   \                    \                  /
//	queue               sum of bucket 0      sum of bucket 1 --
//
// The sums are those behind all shards, to the bit: only their time is another one. Those with other nodes go through
// the host, and stay behind the shards.

// leastBucket is how many floats of the gradient are summed at a time, at least: 4 MiB.
const leastBucket = 1 << 20

// beside is a rank's queue for sums.
type beside struct {
	dev   *exec.Device // forked from the rank's
	arena *exec.Arena
}

// fork opens the queue of a rank's device.
func (k *rank) fork() error {
	dev, err := k.dev.Fork()
	if err == nil {
		k.beside = &beside{dev, dev.NewArena()}
	}
	return err
}

// prepareBuckets prepares the sums of the gradient's buckets.
func (r *run) prepareBuckets() (err error) {
	defer exec.Catch(&err)
	if r.ranks[0].beside == nil {
		return nil
	}
	for n := range r.m.rest {
		var arenas []*exec.Arena
		var parts []*exec.Buffer
		for _, k := range r.ranks {
			arenas = append(arenas, k.beside.arena)
			parts = append(parts, k.beside.dev.Of(k.sharding.buckets[n].whole[0]))
		}
		r.buckets = append(r.buckets, group.NewSum(arenas, parts, nil))
	}
	return nil
}

// inSegments is inShards with sums beside the last shard's backward pass. begin begins a shard's step, up to the first
// cut. The devices' work is enqueued bucket by bucket, of all ranks by one goroutine, and nothing waits for it.
func (r *run) inSegments(part int, begin func(i int, k *rank, shard, mine int) error) (err error) {
	defer exec.Catch(&err)
	last := r.portion().each - 1
	if err := r.overShards(r.feed, func(i int, k *rank, shard, mine int) error {
		k.sharding.next(mine)
		if err := begin(i, k, shard, mine); err != nil || mine == last {
			return err
		}
		r.parts[i].m.goOn()
		for n := range k.sharding.buckets {
			k.sharding.buckets[n].took(mine)
		}
		k.sharding.took(mine)
		return nil
	}); err != nil {
		return err
	}
	for n, sum := range r.buckets {
		for i, k := range r.ranks {
			k.sharding.buckets[n].took(last)
			k.beside.dev.Follow(k.dev)
			r.parts[i].m.rest[n].program.Run(1)
		}
		if err := sum.Run(); err != nil {
			return err
		}
	}
	for _, k := range r.ranks {
		k.sharding.took(last)
	}
	if err := runSums(r.sums); err != nil {
		return err
	}
	for _, k := range r.ranks {
		k.dev.Follow(k.beside.dev)
		k.sharding.finish(part)
	}
	return nil
}
