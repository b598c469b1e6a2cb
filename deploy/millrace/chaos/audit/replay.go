package audit

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// Letters are the dead letters that a stream held, by file_id, with the highest replay count.
type Letters map[string]int

// Letters reads which dead letters there are.
func (c *Checker) Letters(ctx context.Context) (Letters, error) {
	all := Letters{}
	err := scan(ctx, c.JS, streamDLQ, true, func(m jetstream.Msg) error {
		e, err := newEnd(m)
		if err == nil {
			all[e.file] = max(all[e.file], e.replay)
		}
		return err
	})
	return all, err
}

// CheckReplays checks that each letter, all of which were replayed, has ended since with a
// higher count, completed or dead.
func (c *Checker) CheckReplays(ctx context.Context, replayed Letters) ([]Violation, error) {
	ended := map[string]int{}
	for _, stream := range []string{streamCompleted, streamDLQ} {
		err := scan(ctx, c.JS, stream, true, func(m jetstream.Msg) error {
			e, err := newEnd(m)
			if err == nil {
				ended[e.file] = max(ended[e.file], e.replay)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var all []Violation
	for id, n := range replayed {
		if ended[id] <= n {
			all = append(all, Violation{Invariant: ReplayEnds, FileID: id, Detail: "was replayed, and has no end with a higher count", Effect: Lost})
		}
	}
	return all, nil
}
