package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
)

const (
	// callTimeout bounds one question to the broker. While it starts it may not answer at
	// all, so that a short wait and another try are faster than a long wait.
	callTimeout = 2 * time.Second
	// callPause is the pause between two tries.
	callPause = 100 * time.Millisecond
	// startTimeout bounds all tries of one question.
	startTimeout = 20 * time.Second
)

// Kind says what an asset is.
type Kind string

// The kinds of assets.
const (
	KindStream   Kind = "stream"
	KindConsumer Kind = "consumer"
	KindBucket   Kind = "bucket"
	KindTimer    Kind = "timer"
)

// Action says what Apply did, or in a dry run would do.
type Action string

// The actions.
const (
	Created   Action = "created"
	Updated   Action = "updated"
	Unchanged Action = "unchanged"
)

// Change is what became of one asset.
type Change struct {
	Kind   Kind    `json:"kind"`
	Name   string  `json:"name"` // of a consumer: stream/consumer
	Action Action  `json:"action"`
	Fields []Field `json:"fields,omitempty"` // what was different, where Action is Updated
}

// Apply makes the broker have what t says. It is idempotent, changes only what differs and
// deletes nothing but the timeline, which has to begin anew where one copy becomes several or
// the other way round. What was done before an error is returned with it. In a dry run
// nothing is changed.
func Apply(ctx context.Context, js jetstream.JetStream, t Topology, dry bool) ([]Change, error) {
	a := applier{js: js, dry: dry}
	for _, s := range t.Streams {
		created, err := a.stream(ctx, KindStream, s.Name, streamConfig(s))
		if err != nil {
			return a.changes, err
		}
		for _, c := range s.Consumers {
			if err := a.consumer(ctx, s.Name, consumerConfig(c), created); err != nil {
				return a.changes, err
			}
		}
	}
	for _, b := range t.Buckets {
		if _, err := a.stream(ctx, KindBucket, b.Name, bucketConfig(b)); err != nil {
			return a.changes, err
		}
	}
	for _, timer := range t.Timers {
		if err := a.timer(ctx, timer); err != nil {
			return a.changes, err
		}
	}
	return a.changes, nil
}

type applier struct {
	js      jetstream.JetStream
	dry     bool
	changes []Change
}

func (a *applier) note(k Kind, name string, action Action, fields []Field) {
	a.changes = append(a.changes, Change{Kind: k, Name: name, Action: action, Fields: fields})
}

// stream returns whether the stream is new, so that it can have no consumers.
func (a *applier) stream(ctx context.Context, k Kind, name string, want jetstream.StreamConfig) (created bool, err error) {
	have, err := readStream(ctx, a.js, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if !a.dry {
			err = call(ctx, func(ctx context.Context) error {
				_, err := a.js.CreateStream(ctx, want)
				return err
			})
			if err != nil {
				return false, fmt.Errorf("create %s %q%s: %w", k, name, advice(err), err)
			}
		}
		a.note(k, name, Created, nil)
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s %q: %w", k, name, err)
	}
	diff := append(merge(streamFields(), &have, &want), mergeMetadata(&have.Metadata, want.Metadata)...)
	if len(diff) == 0 {
		a.note(k, name, Unchanged, nil)
		return false, nil
	}
	if !a.dry {
		err = a.update(ctx, have, changed(diff, persistMode))
		if err != nil {
			return false, fmt.Errorf("update %s %q (%s): %w", k, name, list(diff), err)
		}
	}
	a.note(k, name, Updated, diff)
	return false, nil
}

// update brings a stream in line. How it persists can not be changed, only the timeline has two
// ways, and nothing correct depends on that: it begins anew.
func (a *applier) update(ctx context.Context, c jetstream.StreamConfig, persist bool) error {
	anew := persist && c.Name == contract.StreamTimeline
	if anew {
		err := call(ctx, func(ctx context.Context) error { return a.js.DeleteStream(ctx, c.Name) })
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
	}
	return call(ctx, func(ctx context.Context) (err error) {
		if anew {
			_, err = a.js.CreateStream(ctx, c)
		} else {
			_, err = a.js.UpdateStream(ctx, c)
		}
		return err
	})
}

// changed reports whether a setting is among those that differ.
func changed(diff []Field, name string) bool {
	return slices.ContainsFunc(diff, func(f Field) bool { return f.Name == name })
}

func (a *applier) consumer(ctx context.Context, stream string, want jetstream.ConsumerConfig, fresh bool) error {
	name := stream + "/" + want.Durable
	have, err := jetstream.ConsumerConfig{}, error(jetstream.ErrConsumerNotFound)
	if !fresh {
		have, err = readConsumer(ctx, a.js, stream, want.Durable)
	}
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if !a.dry {
			err = call(ctx, func(ctx context.Context) error {
				_, err := a.js.CreateConsumer(ctx, stream, want)
				return err
			})
			if err != nil {
				return fmt.Errorf("create consumer %q: %w", name, err)
			}
		}
		a.note(KindConsumer, name, Created, nil)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read consumer %q: %w", name, err)
	}
	diff := append(merge(consumerFields(), &have, &want), mergeMetadata(&have.Metadata, want.Metadata)...)
	if len(diff) == 0 {
		a.note(KindConsumer, name, Unchanged, nil)
		return nil
	}
	if !a.dry {
		err = call(ctx, func(ctx context.Context) error {
			_, err := a.js.UpdateConsumer(ctx, stream, have)
			return err
		})
		if err != nil {
			return fmt.Errorf("update consumer %q (%s): %w", name, list(diff), err)
		}
	}
	a.note(KindConsumer, name, Updated, diff)
	return nil
}

// advice says what to do about an error where the broker's words do not.
func advice(err error) string {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok && e.ErrorCode == noStorage {
		return " (the streams together are planned larger than the broker may store: plan them smaller, or allow it more)"
	}
	return ""
}

func list(diff []Field) string {
	parts := make([]string, len(diff))
	for i, f := range diff {
		parts[i] = f.String()
	}
	return strings.Join(parts, ", ")
}

// timer publishes a repeating schedule, unless the same is there: publishing it again would
// begin its interval anew.
func (a *applier) timer(ctx context.Context, t Timer) error {
	m := &nats.Msg{Subject: t.Subject, Data: t.Body, Header: nats.Header{
		"Nats-Schedule":        {"@every " + t.Every.String()},
		"Nats-Schedule-Target": {t.Target},
	}}
	for k, v := range t.Header {
		m.Header[k] = []string{v}
	}
	action, diff, err := a.compareTimer(ctx, m)
	if err != nil {
		return fmt.Errorf("read timer %q: %w", t.Subject, err)
	}
	if action != Unchanged && !a.dry {
		err := call(ctx, func(ctx context.Context) error {
			_, err := a.js.PublishMsg(ctx, m)
			return err
		})
		if err != nil {
			return fmt.Errorf("set timer %q: %w", t.Subject, err)
		}
	}
	a.note(KindTimer, t.Subject, action, diff)
	return nil
}

func (a *applier) compareTimer(ctx context.Context, want *nats.Msg) (Action, []Field, error) {
	var have *jetstream.RawStreamMsg
	err := call(ctx, func(ctx context.Context) error {
		name, err := a.js.StreamNameBySubject(ctx, want.Subject)
		if err != nil {
			return err
		}
		s, err := a.js.Stream(ctx, name)
		if err != nil {
			return err
		}
		have, err = s.GetLastMsgForSubject(ctx, want.Subject)
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return Created, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	var diff []Field
	for name := range want.Header {
		if h, w := have.Header.Get(name), want.Header.Get(name); h != w {
			diff = append(diff, Field{Name: name, Have: h, Want: w})
		}
	}
	if !bytes.Equal(have.Data, want.Data) {
		diff = append(diff, Field{Name: "body", Have: string(have.Data), Want: string(want.Data)})
	}
	if len(diff) == 0 {
		return Unchanged, nil, nil
	}
	return Updated, diff, nil
}

// StartMemory sets the timers of t in a bus that has no provisioning of its own.
func StartMemory(ctx context.Context, b bus.Bus, t Topology) error {
	for _, timer := range t.Timers {
		m := bus.Message{Subject: timer.Subject, Header: timer.Header, Body: timer.Body}
		if err := b.Every(ctx, m, timer.Every, timer.Target); err != nil {
			return fmt.Errorf("set timer %q: %w", timer.Subject, err)
		}
	}
	return nil
}

func readStream(ctx context.Context, js jetstream.JetStream, name string) (jetstream.StreamConfig, error) {
	var c jetstream.StreamConfig
	err := call(ctx, func(ctx context.Context) error {
		s, err := js.Stream(ctx, name)
		if err == nil {
			c = s.CachedInfo().Config
		}
		return err
	})
	return c, err
}

func readConsumer(ctx context.Context, js jetstream.JetStream, stream, name string) (jetstream.ConsumerConfig, error) {
	var c jetstream.ConsumerConfig
	err := call(ctx, func(ctx context.Context) error {
		s, err := js.Consumer(ctx, stream, name)
		if err == nil {
			c = s.CachedInfo().Config
		}
		return err
	})
	return c, err
}

// call asks until there is an answer. What was asked may then have been done twice, which
// is harmless here. Every error is unavailable, but for a refusal.
func call(ctx context.Context, ask func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		one, done := context.WithTimeout(ctx, callTimeout)
		err := ask(one)
		done()
		if err == nil || !silent(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fault.Down(err)
		case <-time.After(callPause):
		}
	}
}

// The broker's codes that are told apart.
const (
	notReady  = 10008 // there is no leader yet
	noStorage = 10047 // what all streams may take is more than the broker has
)

// silent reports whether err says that there was no answer yet.
func silent(err error) bool {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return e.ErrorCode == notReady
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, jetstream.ErrNoStreamResponse)
}
