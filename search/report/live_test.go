package report

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/metrics"
)

// A page of work in progress shows what the folder holds by now, whatever is torn in it, and what workers say, without
// believing that it is no markup.
func TestLive(t *testing.T) {
	empty := string(Live{Begun: time.Now()}.Body())
	require.Contains(t, empty, "At work for")
	require.NotContains(t, empty, "Workers")
	require.NotContains(t, empty, ">Labels<")
	require.Contains(t, string(Live{Farmed: true, Dir: filepath.Join(t.TempDir(), "none")}.Body()),
		"The farm opens with the first job.")

	const evil = "<script>alert(1)</script>\u202e"
	dir := t.TempDir()
	for name, text := range map[string]string{
		ConfigName: "space: nasbench101\nbudget: 60\n",
		LedgerName: `{"arch":"nasbench101:best","accuracy":0.5,"round":0,"proposer":"random"}
{"arch":"<b>","accuracy":0.75,"round":1,"proposer":"<i>"}
{"arch":"nasben`,
		LogName: `{"event":"round","step":0,"labels":1,"best":0.5}
{"event":"candidate_retry","step":1,"attempt":2,"arch":"<b>one","error":"<u>full"}
{"event":"candidate_failed","step":1,"arch":"two","error":"given"}
{"event":"different","step":1,"job":"j","archs":"three","first":"<gpu1>","second":"gpu2"}
{"event":"rou`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	use, speed := 0.25, 1234.0
	l := Live{Dir: dir, Begun: time.Now(), Busy: evil, Farmed: true, Farm: &LiveFarm{Queue: &LiveQueue{3, 2},
		Workers: []LiveWorker{{Name: evil, Host: evil, State: evil, Why: evil, Jobs: []LiveJob{{evil, 7}, {"next", 0}},
			Done: 5, Images: &speed, GPU: &use, Heard: 12 * time.Second}, {Name: "quiet", State: "silent"}}},
		Numbers: []metrics.Told{{Name: evil, Help: evil, Value: 1.5}, {Name: "timed", Value: 2, Counts: 4}}}
	body := string(l.Body())
	for _, want := range []string{"of 60", ">75.00 %<", ">3<", "25 %", "1234", "12s ago", "mean of 4",
		"attempt 2 failed", "&lt;u&gt;full", "given up", "&lt;gpu1&gt;", "unknown",
		"&lt;script&gt;alert(1)&lt;/script&gt;\\u202e"} {
		require.Contains(t, body, want)
	}
	require.NotContains(t, body, "<script")
	require.NotContains(t, body, "\u202e")
	require.NotContains(t, body, "<b>one")
	require.NotContains(t, body, "<i>")

	for range liveWorkers {
		l.Farm.Workers = append(l.Farm.Workers, LiveWorker{Name: "more"})
	}
	require.Contains(t, string(l.Body()), "and 2 more:")
}

// Of what failed the latest is shown, whatever it is.
func TestTheLatestFailures(t *testing.T) {
	d := &Data{Events: []Event{{Name: eventFailed, Step: 1, Seconds: 50, Text: map[string]string{"arch": "lost"}}}}
	for n := range 2 * liveFailures {
		d.Events = append(d.Events, Event{Name: eventRetry, Step: n, Seconds: float64(n),
			Values: map[string]float64{"attempt": 1}, Text: map[string]string{"arch": fmt.Sprint("tried", n)}})
	}
	list := d.failures()
	require.Len(t, list, liveFailures)
	require.Equal(t, []string{"lost", fmt.Sprint("tried", 2*liveFailures-1)}, []string{list[0].Arch, list[1].Arch})
}

// The policy lets the page run its one script, and what the page is called is text.
func TestLiveFrame(t *testing.T) {
	policy, head, tail := LiveFrame("ctnas", `ctnas "<script>"`)
	require.Contains(t, string(head), policy[:strings.Index(policy, "'")])
	require.NotContains(t, string(head), "<script")
	require.Contains(t, string(head), `<noscript><meta http-equiv="refresh" content="10"></noscript>`)
	script := regexp.MustCompile(`(?s)<script>(.*)</script>`).FindStringSubmatch(string(tail))
	require.NotNil(t, script)
	require.Equal(t, liveJS, script[1])
	require.Equal(t, 1, strings.Count(policy, "script-src"))
	require.NotContains(t, policy, "unsafe")
	require.NotContains(t, fmt.Sprint(newFrame("a", "b")), "refresh", "the report does not load itself again")
}
