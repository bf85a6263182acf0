// Package trained makes labels by training: a candidate's label is the validation accuracy that its network has after a
// recipe. Candidates are trained several at once; what a label is depends on neither their number nor their timing, nor
// on what the cache holds already.
package trained
