package chaos

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/chaos/audit"
	"github.com/jobspy/millrace/shared/failpoint"
)

func TestTheTableTellsWhatEachKindOfFaultDid(t *testing.T) {
	t.Parallel()
	kill := Event{Kind: KillStage, Stage: "enrich"}
	r := Report{
		Faults: []Injected{
			{Event: kill, InFlight: []string{"a", "b"}, Recovery: 2 * time.Second},
			{Event: kill, InFlight: []string{"b", "c"}, Recovery: 4 * time.Second},
			{Event: kill, InFlight: []string{"c"}, Recovery: 9 * time.Second},
			{Event: Event{Kind: KillAtPoint, Point: failpoint.Taken}, InFlight: []string{"lost"}, Recovery: -1},
			{Event: Event{Kind: KillAtPoint, Point: failpoint.Ended}, Err: errNotMet},
			{Event: Event{Kind: StoreFull}, Err: errors.New("no such disk")},
		},
		Violations: []audit.Violation{
			{Invariant: audit.OneEnd, FileID: "lost", Effect: audit.Lost},
			{Invariant: audit.OneEnd, FileID: "b", Effect: audit.Doubled},
			{Invariant: audit.NoDouble, FileID: "b", Effect: audit.Doubled},
			{Invariant: audit.Emptied, FileID: "a"},
		},
	}
	var out bytes.Buffer
	r.Print(&out)
	tests := []struct{ name, line string }{
		{"a kind is one line, and a document counts for each fault that met it", `kill a stage +3 +5 +0 +2 +4\.0s +9\.0s\n`},
		{"what never ended has no time", `kill at a point: taken +1 +1 +1 +0 +- +- \(1 NEVER\)\n`},
		{"what could not be made is told with its reason", `not made: .*store disk full.*: no such disk\n`},
		{"faults that were made are counted, and those that were not", `4 faults made, 2 not met`},
		{"an invariant is told by its name", `one terminal state per accepted document +BROKEN, 2 times\n`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Regexp(t, tt.line, out.String())
		})
	}
}
