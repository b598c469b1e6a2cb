package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
)

// clockSkew is how far the clocks of the broker and of who made the backup may be apart.
const clockSkew = time.Minute

// ErrInUse is returned where the broker holds something that a restore would replace.
var ErrInUse = errors.New("the broker holds something already")

// Restore puts a backup back.
type Restore struct {
	Bus       *bus.JetStream
	LedgerTTL time.Duration // how long a document is remembered after its end
	Now       func() time.Time
	// Replace lets go of what the broker holds.
	Replace bool
	// Report is told of each stream when it is there again. It may be nil.
	Report func(Part)
}

// Restored is what a restore did.
type Restored struct {
	Manifest Manifest `json:"backup"`
	// Ended is how many documents had ended while the backup was made: their ends are in the
	// ledger now.
	Ended int `json:"ended_meanwhile"`
}

// From puts a backup back that Read has found undamaged. The stages may run: they take up
// their work when the queues are there, which come last.
func (r *Restore) From(ctx context.Context, dir string, m Manifest) (done Restored, err error) {
	done.Manifest = m
	if err := r.check(ctx, m); err != nil {
		return done, err
	}
	parts := slices.Clone(m.Streams)
	slices.SortStableFunc(parts, func(a, b Part) int { return place(a.Stream) - place(b.Stream) })
	known := false
	for _, p := range parts {
		if place(p.Stream) == placeQueue && !known {
			if done.Ended, err = r.ends(ctx, m); err != nil {
				return done, err
			}
			known = true
		}
		if err := r.stream(ctx, dir, p); err != nil {
			return done, fmt.Errorf("restore %s: %w", p.Stream, err)
		}
		if r.Report != nil {
			r.Report(p)
		}
	}
	return done, resumeRetry(ctx, r.Bus.JetStream())
}

// The places of streams in the order of a restore.
const (
	placeLedger = iota
	placeRest
	placeQueue // queues and LLM_RETRY: once they are there the stages work
)

func place(stream string) int {
	switch at := rank(stream); {
	case at == rankLedger:
		return placeLedger
	case at <= rankRetry:
		return placeQueue
	default:
		return placeRest
	}
}

// check refuses to replace what anybody may miss. What a line has that was just made is not
// that: its timers, the policy as it is at first, and what can be made anew.
func (r *Restore) check(ctx context.Context, m Manifest) error {
	if r.Replace {
		return nil
	}
	var used []string
	for _, p := range m.Streams {
		s, err := r.Bus.JetStream().Stream(ctx, p.Stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		var info *jetstream.StreamInfo
		if err == nil {
			info, err = s.Info(ctx, jetstream.WithSubjectFilter(">"))
		}
		if err != nil {
			return fmt.Errorf("look for %s: %w", p.Stream, err)
		}
		if missed(p.Stream, info) {
			used = append(used, p.Stream)
		}
	}
	if len(used) > 0 {
		return fmt.Errorf("%w: %s", ErrInUse, strings.Join(used, ", "))
	}
	return nil
}

// freshConfig is the last message of the configuration that nobody has changed: the policy and
// what was good last.
const freshConfig = 2

// missed reports whether anybody may miss what a stream holds.
func missed(stream string, info *jetstream.StreamInfo) bool {
	switch stream {
	case contract.StreamTimeline, "KV_" + contract.KVCache, "KV_" + contract.KVJoin:
		return false
	case "KV_" + contract.KVConfig:
		return info.State.LastSeq > freshConfig
	case contract.StreamRetry:
		for subject := range info.State.Subjects {
			if !strings.HasPrefix(subject, contract.RootCron+".") && !strings.HasPrefix(subject, contract.DueSubject(contract.Archive, "")) {
				return true
			}
		}
		return false
	default:
		return info.State.Msgs > 0
	}
}

// stream makes one stream anew out of its file.
func (r *Restore) stream(ctx context.Context, dir string, p Part) error {
	f, err := os.Open(filepath.Join(dir, p.File))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	err = r.Bus.JetStream().DeleteStream(ctx, p.Stream)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete what is there: %w", err)
	}
	if err := restore(ctx, r.Bus.Conn(), p, f); err != nil {
		return err
	}
	s, err := r.Bus.JetStream().Stream(ctx, p.Stream)
	if err != nil {
		return err
	}
	// What is over its age or time to live leaves at once, and stages take what they can, so only
	// the end can be compared.
	if have := s.CachedInfo(); have.State.LastSeq < p.LastSeq || have.State.Consumers < p.Consumers {
		return fmt.Errorf("it ends at message %d with %d consumers, in the backup at %d with %d",
			have.State.LastSeq, have.State.Consumers, p.LastSeq, p.Consumers)
	}
	return nil
}

// ends enters into the ledger, which was copied first, what ended while the rest was copied: a
// queue may hold that still, and it must not end again.
func (r *Restore) ends(ctx context.Context, m Manifest) (n int, err error) {
	l, err := ledger.OpenLedger(ctx, r.Bus, r.LedgerTTL, r.Now)
	if err != nil {
		return 0, err
	}
	for stream, kind := range map[string]ledger.Kind{contract.StreamCompleted: ledger.Completed, contract.StreamDLQ: ledger.Dead} {
		from, err := r.Bus.SeqAt(ctx, stream, m.Began.Add(-clockSkew))
		if err != nil {
			return n, err
		}
		for s, err := range r.Bus.Scan(ctx, stream, "", from) {
			if err != nil {
				return n, err
			}
			ended, err := enter(ctx, l, s, kind)
			if err != nil {
				return n, err
			}
			if ended {
				n++
			}
		}
	}
	return n, nil
}

// enter marks the document of a terminal message as ended, and reports whether the ledger did
// not know that.
func enter(ctx context.Context, l *ledger.Ledger, s *bus.Stored, kind ledger.Kind) (bool, error) {
	d := doc.FromMessage(s)
	id := s.Header[contract.HeaderFileID]
	if id == "" {
		return false, nil
	}
	d.Metadata.FileID = id
	h := ledger.Holder{WorkID: id, Replay: d.Replay, Kind: kind}
	e := ledger.Entry{
		Name: d.Name, Task: d.Metadata.TaskType, Provider: d.Metadata.Provider, SHA256: s.Header[contract.HeaderSHA256],
		Owner: ledger.Owner{Stream: d.Origin.Stream, Seq: d.Origin.Seq, Time: d.Origin.Time}, Stage: contract.Archive,
	}
	var body struct {
		Metadata doc.Metadata `json:"metadata"`
	}
	if codec.Unmarshal(s.Body, &body) == nil { // what failed early may be anything
		e.CreatedAt = body.Metadata.CreatedAt
		if sum := strings.TrimPrefix(body.Metadata.Checksum, "sha256:"); sum != "" {
			e.SHA256 = sum
		}
	}
	if kind == ledger.Dead {
		h.WorkID = d.WorkID()
		e.Stage, e.Reason = contract.Stage(s.Header[contract.HeaderStage]), contract.Reason(s.Header[contract.HeaderReason])
	}
	claim, _, err := l.Take(ctx, id, h, e)
	if err != nil || claim != ledger.Won && claim != ledger.Resumed {
		return false, err
	}
	return true, l.Finish(ctx, id, h)
}
