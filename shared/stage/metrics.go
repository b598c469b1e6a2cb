package stage

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jobspy/millrace/shared/contract"
)

// The outcomes of a piece of work in one stage, as metric labels.
const (
	outcomeOK      = "ok"      // outputs published
	outcomeNone    = "none"    // nothing to publish: a duplicate, or kept in a join
	outcomeRetried = "retried" // an attempt failed, another follows
	outcomeDead    = "dead"    // dead letter
	outcomeFailed  = "failed"  // a timer's work that failed
)

// Metrics are the numbers of all stages of a process.
type Metrics struct {
	documents *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	inhand    *prometheus.GaugeVec
}

// NewMetrics registers the metrics with reg, every label value of the given stages at zero.
func NewMetrics(reg prometheus.Registerer, stages ...contract.Stage) *Metrics {
	m := &Metrics{
		documents: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_documents_total",
			Help: "Documents by stage and by how the stage's work on them ended.",
		}, []string{"stage", "outcome", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "millrace_handle_seconds",
			Help:    "How long the handler of a stage worked on one document.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"stage"}),
		inhand: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_in_hand",
			Help: "Messages delivered to a stage and not settled yet.",
		}, []string{"stage"}),
	}
	reg.MustRegister(m.documents, m.seconds, m.inhand)
	for _, s := range stages {
		for _, o := range []string{outcomeOK, outcomeNone, outcomeRetried} {
			m.documents.WithLabelValues(string(s), o, "")
		}
		for _, r := range contract.Reasons() {
			m.documents.WithLabelValues(string(s), outcomeDead, string(r))
		}
		m.seconds.WithLabelValues(string(s))
		m.inhand.WithLabelValues(string(s))
	}
	return m
}

func (m *Metrics) outcome(s contract.Stage, outcome string, r contract.Reason) {
	m.documents.WithLabelValues(string(s), outcome, string(r)).Inc()
}

func (m *Metrics) handled(s contract.Stage, d time.Duration) {
	m.seconds.WithLabelValues(string(s)).Observe(d.Seconds())
}

func (m *Metrics) inHand(s contract.Stage, n float64) { m.inhand.WithLabelValues(string(s)).Add(n) }
