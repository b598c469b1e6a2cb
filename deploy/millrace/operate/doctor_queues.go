package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobspy/millrace/shared/contract"
)

const (
	// ghostLooks is how often a queue is counted before what nobody will deliver counts as that:
	// the numbers of a busy queue and of its consumers are not of the same moment.
	ghostLooks = 4
	ghostPause = 150 * time.Millisecond
	// fullWarn and fullFail are shares of a limit in percent: a full queue refuses.
	fullWarn, fullFail = 80, 95
)

// queues looks at what the streams hold: messages that nobody will deliver, the room that is
// left, and the copies in a cluster.
func (d *Doctor) queues(ctx context.Context, js jetstream.JetStream) {
	d.ghosts(ctx, js)
	d.room(ctx, js)
	d.copies(ctx, js)
}

// ghosts finds messages of work queues that no consumer is going to deliver: delivered too
// often, or on a subject that no consumer takes.
func (d *Doctor) ghosts(ctx context.Context, js jetstream.JetStream) {
	suspects, least := []string{contract.StreamRetry}, map[string]int{}
	for _, s := range contract.Stages() {
		suspects = append(suspects, contract.StageStream(s))
	}
	for look := 0; look < ghostLooks && len(suspects) > 0; look++ {
		if look > 0 && sleep(ctx, ghostPause) != nil {
			d.note("ghosts", Warn, "", "there was no time to count what nobody delivers")
			return
		}
		var left []string
		for _, name := range suspects {
			n, err := undelivered(ctx, js, name)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				continue // the check of the streams has said it
			}
			if err != nil {
				d.note("ghosts", Warn, "", "count what nobody delivers in %s: %v", name, err)
				return
			}
			if look > 0 {
				n = min(n, least[name])
			}
			if least[name] = n; n > 0 {
				left = append(left, name)
			}
		}
		suspects = left
	}
	found := make([]string, len(suspects))
	for i, name := range suspects {
		found[i] = fmt.Sprintf("%d in %s", least[name], name)
	}
	if len(found) > 0 {
		d.note("ghosts", Fail, "start the stage: it takes care of what was delivered too often; else look at them with nats stream view",
			"messages that no consumer is going to deliver: %s", strings.Join(found, ", "))
		return
	}
	d.note("ghosts", OK, "", "each message in a queue has a consumer that delivers it")
}

// undelivered returns how many messages of a work queue are with none of its consumers. The queue
// is counted before and after them, so that what is worked off or arrives meanwhile does not count.
func undelivered(ctx context.Context, js jetstream.JetStream, name string) (int, error) {
	s, err := js.Stream(ctx, name)
	if err != nil {
		return 0, err
	}
	before, err := held(ctx, s)
	if err != nil {
		return 0, err
	}
	taken := 0
	list := s.ListConsumers(ctx)
	for c := range list.Info() {
		taken += int(c.NumPending) + c.NumAckPending //nolint:gosec // no stream has 2^63 messages
	}
	if err := list.Err(); err != nil {
		return 0, err
	}
	after, err := held(ctx, s)
	return min(before, after) - taken, err
}

// held returns how many messages of a work queue a consumer should deliver.
func held(ctx context.Context, s jetstream.Stream) (int, error) {
	if s.CachedInfo().Config.Name != contract.StreamRetry {
		info, err := s.Info(ctx)
		if err != nil {
			return 0, err
		}
		return int(info.State.Msgs), nil //nolint:gosec // no stream has 2^63 messages
	}
	// Its schedules wait for their time, not for a consumer.
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(contract.RootDue+".>"))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, m := range info.State.Subjects {
		n += int(m) //nolint:gosec // as above
	}
	return n, nil
}

// room looks at how full the streams are that refuse when they are, and the broker's disk.
func (d *Doctor) room(ctx context.Context, js jetstream.JetStream) {
	worst, v := 0, OK
	var full []string
	list := js.ListStreams(ctx)
	for s := range list.Info() {
		c := s.Config
		if !ours(c.Name) || c.MaxBytes <= 0 || c.Discard != jetstream.DiscardNew {
			continue
		}
		share := percent(s.State.Bytes, c.MaxBytes)
		worst = max(worst, share)
		if share >= fullWarn {
			full = append(full, fmt.Sprintf("%s is %d %% full", c.Name, share))
		}
	}
	if err := list.Err(); err != nil {
		d.note("room", Warn, "", "read how full the streams are: %v", err)
		return
	}
	account, err := js.AccountInfo(ctx)
	if err != nil {
		d.note("room", Warn, "", "read what the broker stores: %v", err)
		return
	}
	if limit := account.Limits.MaxStore; limit > 0 {
		share := percent(account.Store, limit)
		worst = max(worst, share)
		if share >= fullWarn {
			full = append(full, fmt.Sprintf("the account has used %d %% of its %d MiB", share, limit>>20))
		}
	}
	switch {
	case worst >= fullFail:
		v = Fail
	case worst >= fullWarn:
		v = Warn
	}
	if v != OK {
		slices.Sort(full)
		d.note("room", v, "find out why it is not worked off (millrace status), or give the broker more disk", "%s", strings.Join(full, ", "))
		return
	}
	d.note("room", OK, "", "no stream that refuses is over %d %% full, %d MiB are stored", worst, account.Store>>20)
}

// ours reports whether a stream, or that of a key-value bucket, belongs to the line.
func ours(name string) bool { return strings.HasPrefix(strings.TrimPrefix(name, "KV_"), "LLM_") }

func percent(n uint64, of int64) int { return int(n * 100 / uint64(of)) } //nolint:gosec // of is over 0

// copies looks at whether every copy of a cluster is there and up to date.
func (d *Doctor) copies(ctx context.Context, js jetstream.JetStream) {
	var lost, behind, single []string
	replicated, clustered := 0, false
	list := js.ListStreams(ctx)
	for s := range list.Info() {
		if !ours(s.Config.Name) || s.Cluster == nil || s.Cluster.Name == "" {
			continue
		}
		clustered = true
		if s.Config.Replicas < 2 {
			single = append(single, s.Config.Name)
			continue
		}
		replicated++
		if s.Cluster.Leader == "" {
			lost = append(lost, s.Config.Name)
		}
		for _, p := range s.Cluster.Replicas {
			switch {
			case p.Offline:
				behind = append(behind, fmt.Sprintf("%s of %s is away", p.Name, s.Config.Name))
			case !p.Current:
				behind = append(behind, fmt.Sprintf("%s of %s is %d behind", p.Name, s.Config.Name, p.Lag))
			}
		}
	}
	err := list.Err()
	switch {
	case err != nil:
		d.note("copies", Warn, "", "read the copies of the streams: %v", err)
	case !clustered:
		return // one broker keeps one copy
	case len(lost) > 0:
		d.note("copies", Fail, "start the brokers that are away", "no leader, so nothing is taken or given: %s", some(lost))
	case len(behind) > 0:
		d.note("copies", Warn, "start the broker, or wait until it has caught up, before another one is stopped", "%s", some(behind))
	case len(single) > 0:
		d.note("copies", Warn, "set STREAM_REPLICAS=3, then "+planAdvice, "one copy in a cluster, lost or away with its broker: %s", some(single))
	default:
		d.note("copies", OK, "", "all copies of %d streams are up to date", replicated)
	}
}

// someNames is how many things are named in one line.
const someNames = 4

// some names the first of many.
func some(names []string) string {
	slices.Sort(names)
	if len(names) <= someNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:someNames], ", "), len(names)-someNames)
}
