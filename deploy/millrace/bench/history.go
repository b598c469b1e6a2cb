package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/jobspy/millrace/shared/codec"
)

// remembered is how many earlier runs a run is compared with.
const remembered = 7

// maxLine is the longest line of a history that is read, in bytes.
const maxLine = 1 << 20

// Change is a figure beside the median of earlier runs.
type Change struct {
	Name    string  `json:"name"`
	Now     float64 `json:"now"`
	Median  float64 `json:"median"`
	Runs    int     `json:"runs"`    // earlier ones
	Percent float64 `json:"percent"` // by how much Now is above the median
	Worse   bool    `json:"worse"`   // whether that is the wrong way
}

// String says it in words.
func (c Change) String() string {
	word := "change"
	if c.Worse {
		word = "regression"
	}
	return fmt.Sprintf("%s: %s %.4g vs %.4g, %+.0f %% (median of %d)", word, c.Name, c.Now, c.Median, c.Percent, c.Runs)
}

// figure is a number of a report that is followed over time.
type figure struct {
	name  string
	value float64
	less  bool // less is better
}

// figures returns those that r has. The first is the rate of the line, where it has one.
func (r *Report) figures() []figure {
	var all []figure
	add := func(name string, value float64, less bool) {
		if value > 0 {
			all = append(all, figure{name, value, less})
		}
	}
	if r.Line != nil {
		add(rateFigure, r.Line.Rate, false)
		add("accepted", r.Line.Accepted, false)
	}
	add("line / store", r.Ratios.Store, false)
	add("line / driver", r.Ratios.Driver, false)
	add("accept / broker", r.Ratios.Accept, false)
	// Those of the machine, which tell whether it is the line that changed.
	add("limit of the broker", r.Broker.Mean, false)
	add("limit of the store", r.Store.Mean, false)
	add("limit of the driver", r.Driver.Mean, false)
	for _, l := range r.Latency {
		add(fmt.Sprintf("p50 at %g/s", l.Rate), l.P50, true)
		add(fmt.Sprintf("p99 at %g/s", l.Rate), l.P99, true)
	}
	return all
}

// rateFigure is the name of the figure that decides whether a run is too slow.
const rateFigure = "rate"

// Compare returns how r differs from the last runs of earlier that have its parameters.
func (r *Report) Compare(earlier []Report) []Change {
	past := map[string][]float64{}
	runs := 0
	for i := len(earlier) - 1; i >= 0 && runs < remembered; i-- {
		if earlier[i].Params != r.Params {
			continue
		}
		runs++
		for _, f := range earlier[i].figures() {
			past[f.name] = append(past[f.name], f.value)
		}
	}
	var all []Change
	for _, f := range r.figures() {
		values := past[f.name]
		if len(values) == 0 {
			continue
		}
		c := Change{Name: f.name, Now: f.value, Median: median(values), Runs: len(values)}
		c.Percent = 100 * (ratio(c.Now, c.Median) - 1)
		c.Worse = c.Percent < 0 != f.less && c.Percent != 0
		all = append(all, c)
	}
	return all
}

// TooSlow reports whether the rate of the line is more than percent below the median.
func TooSlow(changes []Change, percent float64) bool {
	for _, c := range changes {
		if c.Name == rateFigure && c.Percent < -percent {
			return true
		}
	}
	return false
}

// ReadHistory reads the reports of a file with one on each line. No file is an empty
// history.
func ReadHistory(path string) ([]Report, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	var all []Report
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var r Report
		if err := codec.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("read line %d of %s: %w", n, path, err)
		}
		all = append(all, r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return all, nil
}

// Append adds the report to a history.
func (r *Report) Append(path string) error {
	line, err := codec.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the history %s: %w", path, err)
	}
	return nil
}
