package operate

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// Overview is the state of the whole line.
type Overview struct {
	At        time.Time    `json:"at"`
	Stages    []StageQueue `json:"stages"`
	Retrying  uint64       `json:"retrying"`  // waiting in LLM_RETRY: retries, deadlines and timers
	Completed uint64       `json:"completed"` // terminal records that are still kept
	Failed    uint64       `json:"failed"`    // dead letters, those that were replayed included
}

// StageQueue is the backlog of one stage.
type StageQueue struct {
	Stage    contract.Stage `json:"stage"`
	Queued   uint64         `json:"queued"` // messages in its stream
	OldestMS int64          `json:"oldest_ms"`
	Lanes    []LaneQueue    `json:"lanes"`
}

// LaneQueue is the backlog of one lane of a stage. The lane "due" is what came back by a
// schedule.
type LaneQueue struct {
	Lane        string `json:"lane"`
	Pending     uint64 `json:"pending"`    // not delivered yet
	Processing  int    `json:"processing"` // delivered and not acknowledged
	Redelivered int    `json:"redelivered"`
}

// LaneDue names the lane of what came back by a schedule.
const LaneDue = "due"

// ReadOverview reads the state of the line.
func ReadOverview(ctx context.Context, b bus.Bus, now time.Time) (Overview, error) {
	o := Overview{At: now.UTC(), Stages: make([]StageQueue, len(contract.Stages()))}
	g, ctx := errgroup.WithContext(ctx)
	retry, err := b.Info(ctx, contract.StreamRetry)
	if err != nil {
		return o, err
	}
	o.Retrying = retry.Messages
	for i, s := range contract.Stages() {
		g.Go(func() (err error) {
			o.Stages[i], err = stageQueue(ctx, b, s, now)
			for _, c := range retry.Consumers {
				if c.Name == contract.DueConsumer(s) {
					o.Stages[i].Lanes = append(o.Stages[i].Lanes, lane(LaneDue, c))
				}
			}
			return err
		})
	}
	for stream, count := range map[string]*uint64{contract.StreamCompleted: &o.Completed, contract.StreamDLQ: &o.Failed} {
		g.Go(func() error {
			info, err := b.Info(ctx, stream)
			*count = info.Messages
			return err
		})
	}
	return o, g.Wait()
}

func stageQueue(ctx context.Context, b bus.Bus, s contract.Stage, now time.Time) (StageQueue, error) {
	q := StageQueue{Stage: s, Lanes: []LaneQueue{}}
	stream := contract.StageStream(s)
	info, err := b.Info(ctx, stream)
	if err != nil {
		return q, err
	}
	q.Queued = info.Messages
	byLane := map[string]bus.ConsumerInfo{}
	for _, c := range info.Consumers {
		if name, ok := strings.CutPrefix(c.Name, string(s)+"-"); ok {
			byLane[name] = c
		}
	}
	for _, l := range contract.Lanes() {
		if c, ok := byLane[string(l)]; ok {
			q.Lanes = append(q.Lanes, lane(string(l), c))
			delete(byLane, string(l))
		}
	}
	for _, c := range info.Consumers { // lanes that only some stages have, in the broker's order
		if name := strings.TrimPrefix(c.Name, string(s)+"-"); byLane[name].Name != "" {
			q.Lanes = append(q.Lanes, lane(name, c))
		}
	}
	if info.Messages == 0 {
		return q, nil
	}
	first, err := b.Get(ctx, stream, info.FirstSeq)
	if errors.Is(err, bus.ErrNotFound) { // done meanwhile
		return q, nil
	}
	if err != nil {
		return q, err
	}
	q.OldestMS = max(now.Sub(first.Time).Milliseconds(), 0)
	return q, nil
}

func lane(name string, c bus.ConsumerInfo) LaneQueue {
	return LaneQueue{Lane: name, Pending: c.Pending, Processing: c.AckPending, Redelivered: c.Redelivered}
}
