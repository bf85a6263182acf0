// Package latency knows how long architectures take on a device: it measures the parts of a space there, keeps the
// times in a table, and sums them up. docs/latency.md describes the table.
package latency
