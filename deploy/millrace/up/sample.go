package up

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jobspy/millrace/schemas"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
)

// samplePoll is how often the ledger is asked where the samples are.
const samplePoll = 100 * time.Millisecond

// Sample is one sample document and where it is.
type Sample struct {
	File   string
	FileID string
	Stage  string // the last stage that was seen to publish it
	End    ledger.Kind
	Reason contract.Reason // of a dead letter
	Result string          // bucket/key of the result of a completed one
	Took   time.Duration
}

// samples follows the sample documents through the line.
type samples struct {
	mu     sync.Mutex
	byID   map[string]*Sample
	all    []*Sample
	begun  time.Time
	ledger *ledger.Ledger
}

// Feed publishes the sample documents and calls show, not concurrently, whenever it is known
// to be further with one of them, until all have ended. A second run over the same data
// finds them ended: they are duplicates then.
func Feed(ctx context.Context, i *Instance, show func([]Sample)) error {
	l, err := ledger.OpenLedger(ctx, i.Bus, 0, time.Now)
	if err != nil {
		return err
	}
	s := &samples{byID: map[string]*Sample{}, begun: time.Now(), ledger: l}
	stop, err := i.Bus.Listen(contract.RootTimeline+".>", s.seen)
	if err != nil {
		return err
	}
	defer stop()
	if err := s.publish(ctx, i.Bus); err != nil {
		return err
	}
	t := time.NewTicker(samplePoll)
	defer t.Stop()
	var last []Sample
	for {
		done, err := s.poll(ctx)
		if err != nil {
			return err
		}
		if now := s.copy(); !slices.Equal(now, last) {
			show(now)
			last = now
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

func (s *samples) publish(ctx context.Context, b bus.Bus) error {
	files, err := fs.Glob(schemas.Examples(), "*.json")
	if err != nil {
		return fmt.Errorf("list the sample documents: %w", err)
	}
	for _, name := range files {
		body, err := fs.ReadFile(schemas.Examples(), name)
		if err != nil {
			return fmt.Errorf("read a sample document: %w", err)
		}
		task, provider, _, ok := doc.ParseFileName(path.Base(name))
		if !ok {
			return fmt.Errorf("the sample document %s names no task and provider", name)
		}
		sample := &Sample{File: name, FileID: sampleID(name, body)}
		s.mu.Lock()
		s.byID[sample.FileID] = sample
		s.all = append(s.all, sample)
		s.mu.Unlock()
		_, err = b.Publish(ctx, bus.Message{
			Subject: contract.RawSubject(task, provider, ""), Body: body,
			Header: bus.Header{contract.HeaderFileID: sample.FileID, contract.HeaderName: name},
		})
		if err != nil {
			return fmt.Errorf("publish the sample document %s: %w", name, err)
		}
	}
	return nil
}

// sampleID returns the file_id that a sample names, else one made of its content.
func sampleID(name string, body []byte) string {
	var e struct {
		Metadata struct {
			FileID string `json:"file_id"`
		} `json:"metadata"`
	}
	if codec.Unmarshal(body, &e) == nil && doc.ValidID(e.Metadata.FileID) {
		return e.Metadata.FileID
	}
	return doc.NewID(doc.Origin{Subject: name}, doc.Sum(body))
}

// seen takes note of what the timeline says.
func (s *samples) seen(_ string, h bus.Header, _ []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sample := s.byID[h[contract.HeaderFileID]]; sample != nil && sample.End == "" && h[contract.HeaderStage] != "" {
		sample.Stage = h[contract.HeaderStage]
	}
}

// poll asks the ledger for those that have not ended and reports whether all have.
func (s *samples) poll(ctx context.Context) (bool, error) {
	done := true
	for _, sample := range s.all {
		if sample.End != "" {
			continue
		}
		e, err := s.ledger.Read(ctx, sample.FileID)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return false, err
		}
		if e.State != ledger.Done {
			done = false
			continue
		}
		s.mu.Lock()
		sample.End, sample.Reason, sample.Stage = e.Holder.Kind, e.Reason, string(e.Stage)
		sample.Took = max(e.At.Sub(s.begun), 0).Round(time.Millisecond)
		if e.Holder.Kind == ledger.Completed {
			sample.Result = doc.ResultRef(e.CreatedAt, sample.FileID).String()
		}
		s.mu.Unlock()
	}
	return done, nil
}

func (s *samples) copy() []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Sample, len(s.all))
	for i, sample := range s.all {
		out[i] = *sample
	}
	return out
}

// Line says in one line where a sample is.
func (s Sample) Line() string {
	name := strings.TrimSuffix(s.File, ".json")
	switch s.End {
	case ledger.Completed:
		return fmt.Sprintf("%-52s completed    %6s  %s", name, s.Took, s.Result)
	case ledger.Dead:
		return fmt.Sprintf("%-52s dead letter  %6s  %s: %s", name, s.Took, s.Stage, s.Reason)
	}
	stage := s.Stage
	if stage == "" {
		stage = "queued"
	}
	return fmt.Sprintf("%-52s %s", name, stage)
}
