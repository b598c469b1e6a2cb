package chaos

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jobspy/millrace/deploy/millrace/chaos/audit"
)

// Report is what became of a run.
type Report struct {
	Settings
	Loaded, Drained time.Duration
	Counts          audit.Counts
	Found           audit.Report
	Faults          []Injected
	Killed          int // how often a process of the line was killed
	Replayed        int
	Violations      []audit.Violation
}

// OK reports whether every invariant held.
func (r *Report) OK() bool { return len(r.Violations) == 0 }

// count returns how often an invariant was broken.
func (r *Report) count(i audit.Invariant) int {
	n := 0
	for _, v := range r.Violations {
		if v.Invariant == i {
			n++
		}
	}
	return n
}

// mostShown is the number of violations of one invariant that are shown.
const mostShown = 20

// Print writes the table of the run.
func (r *Report) Print(w io.Writer) {
	rows := map[string][]Injected{}
	missed := 0
	for _, f := range r.Faults {
		if f.Err != nil {
			missed++
			continue
		}
		name := string(f.Kind)
		if f.Point != "" {
			name += ": " + string(f.Point)
		}
		rows[name] = append(rows[name], f)
	}
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "FAULT\tTIMES\tIN FLIGHT\tRECOVERY P50\tMAX")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		all := rows[name]
		slices.SortFunc(all, func(a, b Injected) int { return cmp.Compare(a.Recovery, b.Recovery) })
		flight := 0
		for _, f := range all {
			flight += f.InFlight
		}
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%.1fs\t%.1fs\n", name, len(all), flight/len(all),
			all[len(all)/2].Recovery.Seconds(), all[len(all)-1].Recovery.Seconds())
	}
	_ = t.Flush() // w is shown to people
	c := r.Counts
	_, _ = fmt.Fprintf(w, "%d faults made, %d not met; %d programs killed; loaded for %s, at rest %s later\n",
		len(r.Faults)-missed, missed, r.Killed, r.Loaded.Round(time.Second), r.Drained.Round(time.Second))
	_, _ = fmt.Fprintf(w, "accepted %d, unknown %d, copies %d, conflicts %d, replayed %d; completed %d, dead letters %d %v; %d objects read, %d archived\n",
		c.Confirmed, c.Unknown, c.Copies, c.Conflicts, r.Replayed, r.Found.Completed, r.Found.Dead, r.Found.Reasons, r.Found.Objects, r.Found.Archived)
	for _, i := range append(audit.Invariants(), Alive) {
		n := r.count(i)
		verdict := "holds"
		if n > 0 {
			verdict = fmt.Sprintf("BROKEN, %d times", n)
		}
		_, _ = fmt.Fprintf(w, "%-66s %s\n", i, verdict)
		shown := 0
		for _, v := range r.Violations {
			if v.Invariant == i && shown < mostShown {
				shown++
				_, _ = fmt.Fprintf(w, "    %s: %s\n", v.FileID, v.Detail)
			}
		}
	}
}

// Keep writes the seed and what was found into a file of dir, so that the run can be made
// again.
func (r *Report) Keep(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("keep the seed: %w", err)
	}
	name := filepath.Join(dir, fmt.Sprintf("seed-%d-%s.txt", r.Seed, r.Topology))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("keep the seed: %w", err)
	}
	_, _ = fmt.Fprintf(f, "CHAOS_SEED=%d CHAOS_FOR=%s CHAOS_RATE=%g CHAOS_TOPOLOGY=%s make chaos\n", r.Seed, r.For, r.Rate, r.Topology)
	r.Print(f)
	return name, f.Close()
}
