// Package command makes labels by a user's own command (labels exec:COMMAND): it is given an architecture as text, as a
// file that describes it, or as a network, trains it in whatever way, and prints what that came to as JSON. What a
// label is depends on the command, the files and variables that it names, and the candidate, neither on how many run at
// once nor on what ended them in between.
package command
