// Package backup copies what the broker holds of the line into a folder, and puts it back:
// streams with their messages and consumers, and key-value buckets.
//
// A backup may be made while the line runs. Every document that was accepted before it began
// is in it at least once: a document only ever moves to a later queue or to LLM_RETRY, so the
// queues are copied in the order of the line, and LLM_RETRY, which leads back, after them,
// while it gives nothing out. What is in it twice, or has ended meanwhile, ends once all the
// same: Restore enters the ends into the ledger before the queues are there.
package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

const (
	// pauseMost is when LLM_RETRY gives out again by itself, should nobody be left to say so.
	pauseMost = 30 * time.Minute
	// handWait is how long retries that are being worked on are waited for.
	handWait = time.Minute
	handPoll = 100 * time.Millisecond

	dirPerm, filePerm = 0o700, 0o600
	streamPrefix      = "LLM_"
	bucketPrefix      = "KV_LLM_"
)

// Backup copies what the broker holds.
type Backup struct {
	Bus *bus.JetStream
	Now func() time.Time
	// Report is told of each stream when it is copied. It may be nil.
	Report func(Part)
}

// To makes a backup in a folder, which is made and must be empty if it is there. A folder
// without a manifest holds no backup, so one that was not finished is none.
func (b *Backup) To(ctx context.Context, dir string) (m Manifest, err error) {
	if err := emptyDir(dir); err != nil {
		return m, err
	}
	m = Manifest{Format: format, Began: b.Now().UTC(), Server: b.Bus.Conn().ConnectedServerVersion()}
	names, err := streams(ctx, b.Bus.JetStream())
	if err != nil {
		return m, err
	}
	resume, inHand, err := b.pause(ctx, names)
	defer func() { err = errors.Join(err, resume()) }()
	if err != nil {
		return m, err
	}
	m.InHand = inHand
	for _, name := range names {
		p, err := b.stream(ctx, dir, name)
		if err != nil {
			return m, fmt.Errorf("back up %s: %w", name, err)
		}
		m.Streams = append(m.Streams, p)
		if b.Report != nil {
			b.Report(p)
		}
	}
	m.Ended = b.Now().UTC()
	return m, m.write(dir)
}

func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, dirPerm); err != nil {
		return fmt.Errorf("make the folder of the backup: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look into the folder of the backup: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: a backup wants a folder of its own", dir)
	}
	return nil
}

// streams lists what belongs to the line and is on disk, in the order in which it is copied.
func streams(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	var names []string
	list := js.ListStreams(ctx)
	for s := range list.Info() {
		ours := strings.HasPrefix(s.Config.Name, streamPrefix) || strings.HasPrefix(s.Config.Name, bucketPrefix)
		if ours && s.Config.Storage == jetstream.FileStorage {
			names = append(names, s.Config.Name)
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list the streams: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("the broker has no streams of the line")
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a, b)) })
	return names, nil
}

// The ranks of what is neither a queue nor in between.
const (
	rankLedger = -1 // whoever is in the ledger is in a queue that is copied later, or has ended
	rankRetry  = 100
	rankRest   = 101
	rankJoin   = 102 // a join that is closed names whose answer closed it, who comes again
)

// rank is the place of a stream in the order of the backup.
func rank(name string) int {
	for i, s := range contract.Stages() {
		if name == contract.StageStream(s) {
			return i
		}
	}
	switch name {
	case "KV_" + contract.KVLedger:
		return rankLedger
	case contract.StreamRetry:
		return rankRetry
	case "KV_" + contract.KVJoin:
		return rankJoin
	default:
		return rankRest
	}
}

// pause makes LLM_RETRY give nothing out until resume is called, and waits until nobody works
// on what it gave out before. inHand is how much of that was not finished in time.
func (b *Backup) pause(ctx context.Context, names []string) (resume func() error, inHand int, err error) {
	js := b.Bus.JetStream()
	if !slices.Contains(names, contract.StreamRetry) {
		return func() error { return nil }, 0, nil
	}
	resume = func() error { return resumeRetry(context.WithoutCancel(ctx), js) }
	for _, s := range contract.Stages() {
		_, err := js.PauseConsumer(ctx, contract.StreamRetry, contract.DueConsumer(s), b.Now().Add(pauseMost))
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return resume, 0, fmt.Errorf("pause the retries of %s: %w", s, err)
		}
	}
	for deadline := b.Now().Add(handWait); ; {
		info, err := b.Bus.Info(ctx, contract.StreamRetry)
		if err != nil {
			return resume, 0, err
		}
		inHand = 0
		for _, c := range info.Consumers {
			inHand += c.AckPending
		}
		if inHand == 0 || b.Now().After(deadline) {
			return resume, inHand, nil
		}
		select {
		case <-ctx.Done():
			return resume, 0, context.Cause(ctx)
		case <-time.After(handPoll):
		}
	}
}

// resumeRetry makes LLM_RETRY give out again.
func resumeRetry(ctx context.Context, js jetstream.JetStream) error {
	var errs []error
	for _, s := range contract.Stages() {
		_, err := js.ResumeConsumer(ctx, contract.StreamRetry, contract.DueConsumer(s))
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			errs = append(errs, fmt.Errorf("resume the retries of %s: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

// stream copies one stream into a file.
func (b *Backup) stream(ctx context.Context, dir, name string) (p Part, err error) {
	p = Part{Stream: name, File: name + ".snapshot"}
	f, err := os.OpenFile(filepath.Join(dir, p.File), os.O_CREATE|os.O_EXCL|os.O_WRONLY, filePerm)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	s, err := snapshot(ctx, b.Bus.Conn(), name, io.MultiWriter(f, sum))
	if err != nil {
		return p, err
	}
	if err := f.Sync(); err != nil {
		return p, err
	}
	p.Bytes, p.SHA256 = s.bytes, hex.EncodeToString(sum.Sum(nil))
	p.Config, p.State = s.Config, s.State
	return p, p.count()
}
