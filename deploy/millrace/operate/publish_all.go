package operate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// publishParallel is how many publishes wait for the broker at one time.
	publishParallel = 32
	// publishBytes bounds the bodies that are in memory at one time.
	publishBytes = 128 << 20
)

// Result is what became of one document of PublishAll.
type Result struct {
	Published
	Where string
	Err   error
}

// PublishAll publishes documents, several at one time, and calls report for each, in their
// order and not concurrently. An error of one does not stop the others; it returns only why
// ctx ended.
func (p *Publisher) PublishAll(ctx context.Context, inputs iter.Seq2[Input, error], a Address, report func(Result)) error {
	var (
		slots   = semaphore.NewWeighted(publishParallel)
		room    = semaphore.NewWeighted(publishBytes)
		results = make(chan chan Result, publishParallel)
		working sync.WaitGroup
	)
	working.Go(func() {
		for one := range results {
			report(<-one)
		}
	})
	for in, err := range inputs {
		one := make(chan Result, 1)
		if err != nil {
			one <- Result{Published: Published{File: in.File, Line: in.Line}, Where: in.Where(), Err: plain(err)}
			results <- one
			continue
		}
		size := min(int64(len(in.Body)), publishBytes)
		if slots.Acquire(ctx, 1) != nil {
			break
		}
		if room.Acquire(ctx, size) != nil {
			slots.Release(1)
			break
		}
		results <- one
		working.Go(func() {
			defer slots.Release(1)
			defer room.Release(size)
			done, err := p.Publish(ctx, in, a)
			one <- Result{Published: done, Where: in.Where(), Err: err}
		})
	}
	close(results)
	working.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// plain drops the path from an error of the file system: it is named beside it.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
