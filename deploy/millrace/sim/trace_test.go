package sim

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// maxEvents is how many events of a run are kept, the last ones.
const maxEvents = 20_000

// event is something that happened.
type event struct {
	at   time.Time
	doc  *int // nil where it is about none, and so of interest for all
	text string
	args []any
}

// note writes down what happens. Its text is made only where a run failed.
func (w *world) note(doc *int, text string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.trace) >= maxEvents {
		w.trace = append(w.trace[:0], w.trace[maxEvents/2:]...)
	}
	w.trace = append(w.trace, event{at: time.Now(), doc: doc, text: text, args: args})
}

// fail writes down what is wrong.
func (w *world) fail(text string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(text, args...))
}

// story tells what happened to the documents that failures name, and what happened to all
// processes. Where it is not clear whose failures they are, or SIM_TRACE is set, it tells all.
func (w *world) story() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	wrong := strings.Join(w.failures, "\n")
	offending := map[int]bool{}
	for i := range w.docs {
		if id := w.docs[i].fileID; id != "" && strings.Contains(wrong, id) || strings.Contains(wrong, docName(i)) {
			offending[i] = true
		}
	}
	all := len(offending) == 0 || os.Getenv("SIM_TRACE") != ""
	var b strings.Builder
	for _, e := range w.trace {
		call := strings.Contains(e.text, "%s: %s %s") // of no interest where it is about nothing
		if all || e.doc == nil && !call || e.doc != nil && offending[*e.doc] {
			fmt.Fprintf(&b, "  %10s  %s\n", e.at.Sub(w.began).Round(time.Millisecond), fmt.Sprintf(e.text, e.args...))
		}
	}
	return b.String()
}
