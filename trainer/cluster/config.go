package cluster

import "time"

// Config is how a node joins the others.
type Config struct {
	Node, Nodes int    // this one, from 0, of how many: a power of two
	At          string // HOST:PORT at which node 0 is reached
	// Keys is the folder of keys, made where it is not there by node 0; the others need its part keys.
	Keys    string
	Version string // of the program
	// Patience is how long others are waited for, at the beginning and whenever their word is.
	Patience time.Duration
	Tell     func(text string) // what may be of interest meanwhile
}
