package report

import "github.com/ctnas/ctnas/internal/events"

// The names of a search's events, what their Step counts, and the keys of their values. Any other name or key is kept
// and goes to TensorBoard; the page shows these.
const (
	// EventController: Step = controller updates. Values: reward (mean probability of beating the baseline, 0..1),
	// entropy (nats a decision), loss, grad_norm (before clipping).
	EventController = "controller"
	// EventJudged: Step = controller updates, written when the search has ended. Values: percentile (mean true
	// percentile of the controller's samples, 0 = best, 100 = worst; only where a table can judge it, and never seen by
	// the search), percentile_samples (how many of the samples the table has; of none there is no percentile).
	EventJudged = "judged"
	// EventComparator: Step = comparator updates over the whole search. Values: loss (binary cross-entropy of a pair),
	// labels, pseudo (pseudo-labelled pairs in the pool).
	EventComparator = "comparator"
	// EventRound: Step = round, from 0. Values: labels (spent until its end), best or, of predicted labels,
	// best_predicted_score (until its end, 0..1), tau (tau-b of the round's new labels against what the comparator
	// predicted for them before), tau_labels (of how many of them), candidates (architectures proposed).
	EventRound = "round"
	// EventBaseline: Step = controller updates. Values: win (mean probability of beating the other members of its set).
	// Text: arch.
	EventBaseline = "baseline"
	// EventCost: Step = 0; the last one counts. Values: seconds_<phase> for every phase the search spent time in,
	// peak_bytes.
	EventCost = "cost"
	// EventGeneration: of a method that picks by shared weights; Step = 0: the random sample, n: generation n of the
	// evolution. Values: best and mean accuracy with shared weights (0..1), measured (architectures so far), and of
	// each operation SharePrefix + its name: its share among the nodes of what was measured.
	EventGeneration = "generation"
	// EventPolicy: Step = epochs of a supernet whose paths a controller draws. Values: reward (mean accuracy of its
	// samples with shared weights, 0..1), entropy (nats a sequence), and the shares of operations in what it then
	// draws.
	EventPolicy = "policy"
	// EventMixture: Step = epochs of a supernet that mixes all choices. Values: entropy (nats, mean over the
	// decisions), and of each choice SharePrefix + its name: its weight, the mean over the decisions that have it.
	EventMixture = "mixture"
	// EventMoved: Step = the round in which a run went on with inputs that lie elsewhere by then. Text: labels,
	// labels_before.
	EventMoved = "moved"
	// EventDifferent: of a farm; Step = 1, 2, … of those jobs of which two workers have sent results that differ. The
	// first one counts. Text: job (its name), archs (what it was done for), first, second (the workers).
	EventDifferent = "different"
)

// SharePrefix begins the keys of shares.
const SharePrefix = "share "

// The keys of a round's best label: an accuracy, or a predicted score, which is none.
const (
	BestAccuracy = "best"
	BestScore    = "best_predicted_score"
)

// Event is one line of log.jsonl, Log its writer.
type (
	Event = events.Event
	Log   = events.Log
)

// LogName is the file of a run folder that holds its events.
const LogName = events.FileName

// OpenLog opens the log of a run folder, of which the first `keep` bytes are kept.
func OpenLog(dir string, keep int64) (*Log, error) { return events.Open(dir, keep) }
