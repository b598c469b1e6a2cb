package bench

import (
	"fmt"
	"runtime"
	"time"
)

// Limit is a rate, in things a second, measured before the line and after it.
type Limit struct {
	Before float64 `json:"before_per_s"`
	After  float64 `json:"after_per_s"`
	Mean   float64 `json:"mean_per_s"` // of those that were measured
}

func (l *Limit) set(after bool, rate float64) {
	if after {
		l.After = rate
	} else {
		l.Before = rate
	}
	switch {
	case l.After == 0:
		l.Mean = l.Before
	case l.Before == 0:
		l.Mean = l.After
	default:
		l.Mean = (l.Before + l.After) / 2
	}
}

// Host says what was measured on.
type Host struct {
	Cores  int    `json:"cores"`
	Go     string `json:"go"`
	Broker string `json:"broker"`
	Sync   string `json:"sync"` // whether the broker syncs each message before it acknowledges
	Store  string `json:"store"`
	// LoadBefore and LoadAfter are how many processes wanted a core, on average over the last
	// minute: well above Cores before the run means that others were at work.
	LoadBefore float64 `json:"load_before"`
	LoadAfter  float64 `json:"load_after"`
}

// ThisHost fills in what the process knows by itself.
func ThisHost() Host {
	return Host{Cores: runtime.NumCPU(), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
}

// Params are what has to be the same for two runs to be compared.
type Params struct {
	Embedded  bool   `json:"embedded"`
	Batched   bool   `json:"batched"`
	Broker    string `json:"broker"`
	Store     string `json:"store"`
	Cores     int    `json:"cores"`
	Documents int    `json:"documents"`
	Size      int    `json:"size"`
	Rates     string `json:"rates"`
	For       string `json:"for"`
	Phases    string `json:"phases"`
}

func paramsOf(c Config, t Target) Params {
	phases := c.Phases
	if len(phases) == 0 {
		phases = Phases()
	}
	return Params{
		Embedded: t.Embedded, Batched: t.Batched, Broker: t.Host.Broker, Store: t.Host.Store, Cores: t.Host.Cores,
		Documents: c.Documents, Size: c.Size, Rates: fmt.Sprint(c.Rates), For: c.For.String(), Phases: fmt.Sprint(phases),
	}
}

// Ratios are the figures that count. One whose parts were not measured is 0.
type Ratios struct {
	Store  float64 `json:"line_to_store"`    // twelve objects of each document, to the store's limit
	Driver float64 `json:"line_to_driver"`   // documents, to the bare driver
	Accept float64 `json:"accept_to_broker"` // publishes accepted while the line runs, to the broker's limit
}

// Report is what one run found.
type Report struct {
	Began  time.Time `json:"began"`
	Took   float64   `json:"took_s"`
	Commit string    `json:"commit"`
	Run    string    `json:"run"` // stands in the file_id of each of its documents
	Params Params    `json:"params"`
	Host   Host      `json:"host"`

	Ratios    Ratios          `json:"ratios"`
	Broker    Limit           `json:"broker"`    // durable publishes
	Store     Limit           `json:"store"`     // objects
	Driver    Limit           `json:"driver"`    // documents, all durable writes of the line
	Publishes Limit           `json:"publishes"` // documents, only the publishes
	Line      *LineResult     `json:"line,omitempty"`
	Latency   []LatencyResult `json:"latency,omitempty"`

	StoreShape  string   `json:"store_shape"`  // of the calls that the store's limit was reached with
	DriverWidth int      `json:"driver_width"` // documents in flight in the driver
	Notes       []string `json:"notes,omitempty"`
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// settle works out the ratios, and says where the limits contradict each other.
func (r *Report) settle() {
	if objects := r.Driver.Mean * objectsPerDocument; r.Store.Mean > 0 && objects > r.Store.Mean {
		r.note("the bare driver stored %.0f objects/s, more than the store's limit: the machine was not the same for both", objects)
	}
	if r.Line == nil {
		return
	}
	r.Ratios = Ratios{
		Store:  ratio(r.Line.Rate*objectsPerDocument, r.Store.Mean),
		Driver: ratio(r.Line.Rate, r.Driver.Mean),
		Accept: ratio(r.Line.Accepted, r.Broker.Mean),
	}
}

// Problems lists what makes the figures worthless: documents that were lost or are not what
// was sent.
func (r *Report) Problems() []string {
	var all []string
	problem := func(n int, format string) {
		if n > 0 {
			all = append(all, fmt.Sprintf(format, n))
		}
	}
	if l := r.Line; l != nil {
		problem(l.Dead, "%d documents ended as dead letters")
		problem(l.Missing, "%d documents did not end in time")
		if !l.Emptied {
			all = append(all, "the queues did not become empty in time")
		}
		if c := l.Check; c != nil {
			problem(c.NoRecord, "%d documents have no terminal record")
			problem(c.TwoRecords, "%d documents have two terminal records")
			problem(c.Unreadable, "%d objects that records name cannot be read")
			problem(c.Unequal, "%d raw objects are not what was sent")
		}
	}
	for _, l := range r.Latency {
		problem(l.Dead, fmt.Sprintf("%%d documents at %g/s ended as dead letters", l.Rate))
		problem(l.Missing, fmt.Sprintf("%%d documents at %g/s did not end in time", l.Rate))
		problem(l.Unreadable, fmt.Sprintf("%%d objects at %g/s could not be read when the record had come", l.Rate))
	}
	return all
}
