package chaos

import (
	"errors"
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
	missed := r.table(w)
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

// table writes a line for each kind of fault, and returns how many faults were not made. Of
// documents in flight it tells the sum over all faults of the kind: one that several faults
// met counts for each.
func (r *Report) table(w io.Writer) (missed int) {
	rows := map[string][]Injected{}
	for _, f := range r.Faults {
		if f.Err != nil {
			missed++
			if !errors.Is(f.Err, errNotMet) {
				_, _ = fmt.Fprintf(w, "not made: %s: %v\n", f.Event, f.Err)
			}
			continue
		}
		name := string(f.Kind)
		if f.Point != "" {
			name += ": " + string(f.Point)
		}
		rows[name] = append(rows[name], f)
	}
	lost, doubled := r.suffered(audit.Lost), r.suffered(audit.Doubled)
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "FAULT\tTIMES\tIN FLIGHT\tLOST\tDOUBLED\tRECOVERY P50\tMAX")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		all := rows[name]
		flight, gone, twice, unhealed := 0, 0, 0, 0
		var took []time.Duration
		for _, f := range all {
			flight += len(f.InFlight)
			for _, id := range f.InFlight {
				gone += lost[id]
				twice += doubled[id]
			}
			if f.Recovery < 0 {
				unhealed++
			} else {
				took = append(took, f.Recovery)
			}
		}
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\n", name, len(all), flight, gone, twice, spread(took, unhealed))
	}
	_ = t.Flush() // w is shown to people
	return missed
}

// spread tells the median and the longest of some times, and how many never ended.
func spread(took []time.Duration, never int) string {
	s := "-\t-"
	if len(took) > 0 {
		slices.Sort(took)
		s = fmt.Sprintf("%.1fs\t%.1fs", took[len(took)/2].Seconds(), took[len(took)-1].Seconds())
	}
	if never > 0 {
		s += fmt.Sprintf(" (%d NEVER)", never)
	}
	return s
}

// suffered returns the documents on which a violation had an effect.
func (r *Report) suffered(e audit.Effect) map[string]int {
	all := map[string]int{}
	for _, v := range r.Violations {
		if v.Effect == e {
			all[v.FileID] = 1
		}
	}
	return all
}

// Keep writes the seed and what was found into a file of dir, so that the run can be made
// again.
func (r *Report) Keep(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil { //nolint:gosec // whoever starts the suite says where
		return "", fmt.Errorf("keep the seed: %w", err)
	}
	name := filepath.Join(dir, fmt.Sprintf("seed-%d-%s.txt", r.Seed, r.Topology))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // as above
	if err != nil {
		return "", fmt.Errorf("keep the seed: %w", err)
	}
	_, _ = fmt.Fprintf(f, "CHAOS_SEED=%d CHAOS_FOR=%s CHAOS_RATE=%g CHAOS_TOPOLOGY=%s make chaos\n", r.Seed, r.For, r.Rate, r.Topology)
	r.Print(f)
	return name, f.Close()
}
