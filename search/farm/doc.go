// Package farm has candidates trained, or evaluated, on many machines. A coordinator, which is the search, puts jobs
// into a queue (Queue, a job.Farm); workers anywhere take them, do them and send results back (Work, Fit). The queue
// and all that the server stores may be lost at any time: what counts is the coordinator's cache of what was made, and
// what it still waits for is submitted again. What jobs are, their kinds know (package job).
package farm
