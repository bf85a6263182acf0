// Package report shows what a search did: drawings of architectures, TensorBoard events, and report.html.
package report
