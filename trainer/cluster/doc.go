// Package cluster is how machines that train one network together find each other (Join) and add up what they have
// (Nodes). A machine is a node; nodes are a power of two. What training makes of it stands in package trainer.
package cluster
