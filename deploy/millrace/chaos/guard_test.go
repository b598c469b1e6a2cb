//go:build integration

package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/chaos/audit"
	"github.com/jobspy/millrace/shared/failpoint"
)

// stuck is how long nothing moves in a run whose guard is gone before what is left is taken
// for lost: longer than what is given up after few deliveries takes, and than any backoff.
const stuck = 25 * time.Second

// every makes the same fault again and again, from the third second on.
func every(pause, last time.Duration, e Event) []Event {
	var all []Event
	for e.At = firstAt; e.At < last; e.At += pause {
		all = append(all, e)
	}
	return all
}

// smallQueue bounds the queue of a stage, and says what is done with what does not fit.
func smallQueue(discard jetstream.DiscardPolicy) func(context.Context, jetstream.JetStream) error {
	return func(ctx context.Context, js jetstream.JetStream) error {
		s, err := js.Stream(ctx, "LLM_ENRICH")
		if err != nil {
			return err
		}
		c := s.CachedInfo().Config
		c.MaxMsgs, c.Discard = 10, discard
		_, err = js.UpdateStream(ctx, c)
		return err
	}
}

// fewDeliveries makes the broker give a message up soon.
func fewDeliveries(ctx context.Context, js jetstream.JetStream) error {
	s, err := js.Stream(ctx, "LLM_VALIDATE")
	if err != nil {
		return err
	}
	for c := range s.ListConsumers(ctx).Info() {
		c.Config.MaxDeliver = 3
		if _, err := s.UpdateConsumer(ctx, c.Config); err != nil {
			return fmt.Errorf("update %s: %w", c.Name, err)
		}
	}
	return nil
}

// TestTheWitnessSeesThatAGuardIsGone takes each guard away and demands that the invariant
// which it keeps is seen to be broken. It takes minutes: CHAOS_GUARDS=1, as make chaos/guards
// sets it.
func TestTheWitnessSeesThatAGuardIsGone(t *testing.T) {
	t.Parallel()
	if os.Getenv("CHAOS_GUARDS") == "" {
		t.Skip("SKIPPED: CHAOS_GUARDS is not set (make chaos/guards sets it)")
	}
	const last, rate = 10 * time.Second, 25
	killed := func(stage string, p failpoint.Point) []Event {
		return every(3*time.Second, last, Event{For: 2 * time.Second, Kind: KillAtPoint, Stage: stage, Point: p})
	}
	tests := []struct {
		name    string
		without []failpoint.Guard
		tamper  func(context.Context, jetstream.JetStream) error
		env     []string
		events  []Event
		broken  []audit.Invariant // any of them; none: all hold
	}{
		{
			name: "an input is acknowledged before its outputs are out", without: []failpoint.Guard{failpoint.AckLast},
			events: killed("enrich", failpoint.Stored), broken: []audit.Invariant{audit.OneEnd},
		},
		{
			name: "publishes have no message id", without: []failpoint.Guard{failpoint.MessageID},
			// What was stored and not answered is published once more.
			events: every(3*time.Second, last, Event{For: 2 * time.Second, Kind: BrokerLate}), broken: []audit.Invariant{audit.OneEnd},
		},
		{
			name: "the ledger is not asked, where message ids are forgotten", without: []failpoint.Guard{failpoint.Ledger, failpoint.MessageID},
			events: killed("archive", failpoint.Ended), broken: []audit.Invariant{audit.OneEnd},
		},
		{
			name: "a full queue refuses", tamper: smallQueue(jetstream.DiscardNew),
			events: every(6*time.Second, last, Event{For: 3 * time.Second, Kind: KillStage, Stage: "enrich"}),
		},
		{
			name: "a full queue drops its oldest", tamper: smallQueue(jetstream.DiscardOld),
			events: every(6*time.Second, last, Event{For: 3 * time.Second, Kind: KillStage, Stage: "enrich"}), broken: []audit.Invariant{audit.OneEnd},
		},
		{
			name: "nobody takes care of what was delivered too often", without: []failpoint.Guard{failpoint.Sweeper}, tamper: fewDeliveries,
			events: []Event{{At: firstAt, For: time.Second, Kind: Poison, Stage: "validate"}}, broken: []audit.Invariant{audit.OneEnd},
		},
		{
			name: "an outage costs nobody an attempt", env: []string{"MAX_ATTEMPTS=1"},
			events: every(8*time.Second, last, Event{For: 4 * time.Second, Kind: KillStore}),
		},
		{
			name: "an outage costs attempts", env: []string{"MAX_ATTEMPTS=1"}, without: []failpoint.Guard{failpoint.OutageIsFree},
			events: every(8*time.Second, last, Event{For: 4 * time.Second, Kind: KillStore}), broken: []audit.Invariant{audit.SoundEnds},
		},
		{
			name: "headers are passed on", without: []failpoint.Guard{failpoint.AllowList},
			events: every(8*time.Second, last, Event{For: time.Second, Kind: KillStage, Stage: "ingest"}),
			// The broker refuses some of them for ever, and passes others on.
			broken: []audit.Invariant{audit.CleanEnds, audit.Emptied},
		},
		{
			name: "an input is terminated before its dead letter is out", without: []failpoint.Guard{failpoint.AnswerFirst},
			events: killed("validate", failpoint.LetterStored), broken: []audit.Invariant{audit.OneEnd},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			c := config(t)
			without := "CHAOS_WITHOUT="
			for _, g := range tt.without {
				without += string(g) + ","
			}
			c.Env = append(append(c.Env, tt.env...), without)
			settings := Settings{
				Config: c, Rate: rate, Events: tt.events, Tamper: tt.tamper,
				Plan: Plan{Seed: 3, For: last, Topology: Stages, Disks: fillable(t, last, rate)},
			}
			if len(tt.broken) > 0 {
				settings.Stuck = stuck
			}
			r, err := Run(t.Context(), settings)
			require.NoError(t, err)
			r.Print(t.Output())
			if len(tt.broken) == 0 {
				require.True(t, r.OK())
				return
			}
			require.True(t, slices.ContainsFunc(tt.broken, func(i audit.Invariant) bool { return r.count(i) > 0 }),
				"the guard is gone, and nobody has seen it")
		})
	}
}

// TestTheRecorderSeesThatTheStoreDoesNotSync takes away the sync of the embedded store and
// demands that the test which records the order of syncs and answers fails.
func TestTheRecorderSeesThatTheStoreDoesNotSync(t *testing.T) {
	t.Parallel()
	if os.Getenv("CHAOS_GUARDS") == "" {
		t.Skip("SKIPPED: CHAOS_GUARDS is not set (make chaos/guards sets it)")
	}
	for without, passes := range map[string]bool{"": true, string(failpoint.Sync): false} {
		cmd := exec.CommandContext(t.Context(), "go", "test", "-tags", "chaos", "-count=1", //nolint:gosec // our own test
			"-run", "TestNothingReturnsBeforeASyncThatBeganAfterTheWrite", "../embedded")
		cmd.Env = append(os.Environ(), "CHAOS_WITHOUT="+without)
		out, err := cmd.CombinedOutput()
		require.Equal(t, passes, err == nil, "without %q: %s", without, out)
	}
}
