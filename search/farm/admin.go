//go:build !nofarm

package farm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ctnas/ctnas/internal/bus"
)

// Admin looks at a farm that is at work, and tells it what to do.
type Admin struct {
	conn  *bus.Conn
	names names
}

// patience is how long a farm is looked for.
const patience = 2 * time.Second

// Open finds the farm whose coordinator works in a folder.
func Open(ctx context.Context, dir string) (*Admin, error) {
	at, err := readJoining(filepath.Join(dir, JoinName))
	if err != nil {
		return nil, err
	}
	var who bus.Credentials
	if at.Folder != "" {
		if who, err = bus.Owner(at.Folder); err != nil {
			return nil, err
		}
	}
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := bus.Dial(soon, at.URL, "admin", who, nil)
	if err != nil {
		return nil, fmt.Errorf("no coordinator is at work: %w", err)
	}
	return &Admin{conn, at.Names}, nil
}

// Close ends the connection.
func (a *Admin) Close() { a.conn.Close() }

// Status is how far a farm is.
type Status struct {
	Charter Charter       `json:"charter"`
	Queued  int           `json:"queued"`  // jobs that nobody works at
	Taken   int           `json:"taken"`   // that a worker has
	Results int           `json:"results"` // that the server keeps, of this search and of what was before in its store
	Workers []WorkerState `json:"workers"`
	Waiting []Waiting     `json:"waiting,omitempty"` // jobs that no worker here has the memory for
}

// Waiting are jobs that wait for a GPU of a size.
type Waiting struct {
	Jobs   int `json:"jobs"`
	Memory int `json:"memory_gb"`
}

// Status asks the server.
func (a *Admin) Status(ctx context.Context) (s Status, err error) {
	m, err := a.conn.Last(ctx, a.names.farm(), a.names.charter())
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(m.Data, &s.Charter); err != nil {
		return s, err
	}
	jobs, taken, err := a.conn.Count(ctx, a.names.jobs())
	if err != nil {
		return s, err
	}
	results, _, err := a.conn.Count(ctx, a.names.results())
	if err != nil {
		return s, err
	}
	s.Queued, s.Taken, s.Results = max(0, int(jobs)-int(taken)), int(taken), int(results)
	if s.Workers, err = workers(ctx, a.conn, a.names); err != nil {
		return s, err
	}
	for _, memory := range s.Charter.Memories {
		class := s.Charter.classIn(memory)
		if slices.ContainsFunc(s.Workers, func(w WorkerState) bool {
			return w.State == stateWorking && slices.Contains(s.Charter.classesFor(w.Memory), class)
		}) {
			continue
		}
		jobs, _, err := a.conn.Demand(ctx, a.names.jobs(), class)
		if err != nil {
			return s, err
		}
		if jobs > 0 {
			s.Waiting = append(s.Waiting, Waiting{jobs, memory})
		}
	}
	return s, nil
}

// workers lists those that have said that they are there, who was heard last first.
func workers(ctx context.Context, c *bus.Conn, n names) (list []WorkerState, err error) {
	subjects, err := c.Subjects(ctx, n.farm(), n.worker("*"))
	if err != nil {
		return nil, err
	}
	for _, subject := range subjects {
		m, err := c.Last(ctx, n.farm(), subject)
		if errors.Is(err, bus.ErrNone) {
			continue
		} else if err != nil {
			return nil, err
		}
		var s WorkerState
		if json.Unmarshal(m.Data, &s) != nil {
			continue
		}
		s.Heard = m.Stored
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b WorkerState) int {
		return cmp.Or(b.Heard.Compare(a.Heard), strings.Compare(a.Name, b.Name))
	})
	return list, nil
}

// Cancel has the jobs of an architecture end as failed, and returns how many there were in the queue.
func (a *Admin) Cancel(ctx context.Context, arch string) (n int, err error) {
	subjects, err := a.conn.Subjects(ctx, a.names.jobs(), a.names.job("*", "*"))
	if err != nil {
		return 0, err
	}
	for _, subject := range subjects {
		m, err := a.conn.Last(ctx, a.names.jobs(), subject)
		if errors.Is(err, bus.ErrNone) {
			continue
		} else if err != nil {
			return n, err
		}
		var o order
		if json.Unmarshal(m.Data, &o) != nil || !slices.Contains(o.Archs, arch) {
			continue
		}
		name := subject[strings.LastIndexByte(subject, '.')+1:]
		cancelled := encode(outcome{Failed: "cancelled", Archs: o.Archs, Worker: "admin"})
		if err := a.conn.Put(ctx, a.names.results(), a.names.result(name), cancelled); err != nil &&
			!errors.Is(err, bus.ErrTaken) {
			return n, err
		}
		if err := a.conn.Remove(ctx, a.names.jobs(), subject); err != nil {
			return n, err
		}
		if err := a.conn.Tell(a.names.event(name), encode(event{Done: true})); err != nil {
			return n, err
		}
		n++
	}
	return n, a.conn.Flush(ctx)
}

// Drain has a worker end after the jobs that it has.
func (a *Admin) Drain(ctx context.Context, worker string) error {
	if notInNames.MatchString(worker) {
		return fmt.Errorf("%q is no worker's name", worker)
	}
	if _, err := a.conn.Ask(ctx, a.names.control(worker), []byte(controlDrain)); err != nil {
		return fmt.Errorf("worker %s does not answer: %w", worker, err)
	}
	return nil
}

// MakeKeys makes the keys of a farm in its folder, if there are none, and returns the folder that workers need.
func MakeKeys(dir string) (workers string, err error) {
	return filepath.Join(dir, bus.KeysFolder), bus.MakeKeys(dir)
}
