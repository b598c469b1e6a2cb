package bench

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Write writes the report for people, the ratios first.
func (r *Report) Write(w io.Writer) error {
	t := &text{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if r.Line != nil {
		t.percent("line / store", r.Ratios.Store, "documents/s x %d to objects/s of the store", objectsPerDocument)
		t.percent("line / driver", r.Ratios.Driver, "documents/s to those of the bare driver")
		t.percent("accept / broker", r.Ratios.Accept, "publishes/s while the line runs to those of the broker alone")
		t.line("", "")
	}
	t.line("LIMIT", "BEFORE\tAFTER\tMEAN\t")
	t.limit("broker", r.Broker, "durable publishes/s of %d bytes, %d at a time", r.Params.Size, publishers)
	t.limit("store", r.Store, "objects/s, %s", r.StoreShape)
	t.limit("bare driver", r.Driver, "documents/s, all durable writes of the line, %d at a time", r.DriverWidth)
	t.limit("publishes alone", r.Publishes, "documents/s, without objects and ledger")
	if r.Line != nil {
		t.document(r.Line)
	}
	if len(r.Latency) > 0 {
		t.line("", "")
		t.line("LATENCY", "P50\tP90\tP99\tMAX\tN\tOBJECTS READABLE AT COMPLETED")
	}
	for _, l := range r.Latency {
		t.line(fmt.Sprintf("at %g/s", l.Rate), fmt.Sprintf("%.1f ms\t%.1f ms\t%.1f ms\t%.1f ms\t%d\t%d of %d",
			l.P50, l.P90, l.P99, l.Max, l.N, l.Objects-l.Unreadable, l.Objects))
	}
	t.line("", "")
	t.line("broker", r.Host.Broker+", "+r.Host.Sync)
	t.line("store", r.Host.Store)
	t.line("machine", fmt.Sprintf("%d cores, load %.1f before and %.1f after, %s", r.Host.Cores, r.Host.LoadBefore, r.Host.LoadAfter, r.Host.Go))
	t.line("run", fmt.Sprintf("%s, %s, took %s", r.Run, r.Began.Format(time.RFC3339), time.Duration(r.Took*float64(time.Second)).Round(time.Second)))
	if r.Commit != "" {
		t.line("commit", r.Commit)
	}
	for _, n := range r.Notes {
		t.line("note", n)
	}
	for _, p := range r.Problems() {
		t.line("PROBLEM", p)
	}
	return errors.Join(t.err, t.w.Flush())
}

// text writes lines of aligned columns.
type text struct {
	w   *tabwriter.Writer
	err error
}

func (t *text) line(name, rest string) {
	if _, err := fmt.Fprintf(t.w, "%s\t%s\n", name, rest); err != nil && t.err == nil {
		t.err = err
	}
}

// percent writes a ratio, if it is known.
func (t *text) percent(name string, ratio float64, format string, args ...any) {
	if ratio > 0 {
		t.line(name, fmt.Sprintf("%.0f %%\t", 100*ratio)+fmt.Sprintf(format, args...))
	}
}

// limit writes a limit, if it is known.
func (t *text) limit(name string, l Limit, format string, args ...any) {
	if l.Mean == 0 {
		return
	}
	value := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", v)
	}
	t.line(name, value(l.Before)+"\t"+value(l.After)+"\t"+value(l.Mean)+"\t"+fmt.Sprintf(format, args...))
}

// document writes what the line did.
func (t *text) document(l *LineResult) {
	t.line("", "")
	t.line("LINE", "PER SECOND\t")
	t.line("accepted", fmt.Sprintf("%.1f\t%d documents, %d at a time, refused and repeated: %d", l.Accepted, l.Documents, publishers, l.Refused))
	t.line("completed", fmt.Sprintf("%.1f\tfirst publish to last terminal record", l.Completed))
	t.line("sustained", fmt.Sprintf("%.1f\tfirst publish to last acknowledgement", l.Rate))
	if n := len(l.Tenths); n > 0 {
		t.line("first, last tenth", fmt.Sprintf("%.1f, %.1f\tof %.0f", l.Tenths[0], l.Tenths[n-1], l.Tenths))
	}
	for _, u := range l.Use {
		t.line("process "+u.Name, fmt.Sprintf("%.1f s CPU\tof pid %d, %.2f ms a document, largest %d MiB",
			u.CPU, u.PID, 1000*u.CPU/float64(l.Documents), u.RSS/1024))
	}
	if c := l.Check; c != nil {
		t.line("read back", fmt.Sprintf("%d of %d\tobjects of %d documents; %d of %d documents have their record",
			c.Objects-c.Unreadable, c.Objects, c.ReadBack, c.Documents-c.NoRecord, c.Documents))
	}
}
