package operate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
)

const (
	// steadyFor is how long a file must not have changed to count as written.
	steadyFor = time.Second
	// busyRound is the pace while something is under way, idleRound while nothing is and only
	// a missed notice of the file system could have brought a file.
	busyRound = 250 * time.Millisecond
	idleRound = 5 * time.Second
	// troublePause is how long nothing is published after the broker or the store refused.
	troublePause = time.Second
	// maxInFlight bounds the documents whose end is waited for; the others wait in pending/.
	maxInFlight = 256
	// watchParallel is how many documents are published, or asked for, at one time.
	watchParallel = 16
)

// Event is a change of state of one file.
type Event struct {
	At     time.Time       `json:"at"`
	File   string          `json:"file"` // its name in the folders
	FileID string          `json:"file_id,omitzero"`
	State  State           `json:"state"`
	Stage  contract.Stage  `json:"stage,omitzero"`  // where it failed
	Reason contract.Reason `json:"reason,omitzero"` // of its dead letter
	Error  string          `json:"error,omitzero"`  // why it could not be published
}

// Watcher publishes each new *.json of a folder and moves it through the folders pending,
// processing, completed and failed below it. What it finds there when it starts it takes up
// again under the same file_id, which is that of the document, else one made of the file's
// name and bytes. One Watcher per folder.
type Watcher struct {
	Dir       string
	Address   Address // without FileID
	Publisher *Publisher
	Bus       bus.Bus
	Ledger    *ledger.Ledger
	// Report is told each change of state, and Trouble what keeps the work from going on,
	// once each time it changes. Neither is called concurrently.
	Report  func(Event)
	Trouble func(error)
	Now     func() time.Time // nil means time.Now

	fresh      map[string]sighting     // in the folder itself
	pending    map[string]*watchedFile // by name, as all of them
	processing map[string]*watchedFile
	resume     time.Time // nothing is published before
	trouble    string
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	if err := w.Start(ctx); err != nil {
		return err
	}
	notices, err := fsnotify.NewWatcher()
	if err == nil {
		defer notices.Close()
		err = notices.Add(w.Dir)
	}
	idle := idleRound
	if err != nil {
		// Without notices the folder is simply read more often.
		idle, notices = steadyFor, &fsnotify.Watcher{}
		w.Trouble(fmt.Errorf("watch %s: no notices from the file system, reading it every %s: %w", w.Dir, idle, err))
	}
	for {
		if err := w.Round(ctx); err != nil {
			return err
		}
		pace := idle
		if len(w.fresh)+len(w.pending)+len(w.processing) > 0 {
			pace = busyRound
		}
		timer := time.NewTimer(pace)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-notices.Events:
		case err := <-notices.Errors:
			w.Trouble(fmt.Errorf("watch %s: %w", w.Dir, err))
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// Start makes the folders and takes up what is in them.
func (w *Watcher) Start(ctx context.Context) error {
	if w.Now == nil {
		w.Now = time.Now
	}
	w.fresh, w.pending, w.processing = map[string]sighting{}, map[string]*watchedFile{}, map[string]*watchedFile{}
	for _, s := range folders {
		if err := os.MkdirAll(filepath.Join(w.Dir, string(s)), 0o750); err != nil {
			return fmt.Errorf("make the folders: %w", err)
		}
	}
	for s, files := range map[State]map[string]*watchedFile{Pending: w.pending, Processing: w.processing} {
		names, err := w.names(string(s))
		if err != nil {
			return err
		}
		for _, name := range names {
			f, _, err := w.load(s, name)
			if err != nil {
				w.Trouble(fmt.Errorf("%s stays where it is: %w", w.path(s, name), err))
				continue
			}
			files[name] = f
		}
	}
	return w.recover(ctx)
}

// Round does everything that can be done now, once. It returns an error only where the
// folder cannot be worked with; trouble with broker and store is told and waited for.
func (w *Watcher) Round(ctx context.Context) error {
	if err := w.claim(); err != nil {
		return err
	}
	err := errors.Join(w.send(ctx), w.settle(ctx))
	if ctx.Err() == nil {
		w.tell(err)
	}
	return nil
}

// tell reports trouble when it changes.
func (w *Watcher) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != w.trouble && err != nil {
		w.Trouble(err)
	}
	w.trouble = text
}

// send publishes what is pending, in the order of the names, as long as few are under way.
func (w *Watcher) send(ctx context.Context) error {
	room := maxInFlight - len(w.processing)
	if room <= 0 || len(w.pending) == 0 || w.Now().Before(w.resume) {
		return nil
	}
	names := slices.Sorted(maps.Keys(w.pending))
	names = names[:min(room, len(names))]
	errs := make([]error, len(names))
	var g errgroup.Group
	g.SetLimit(watchParallel)
	for i, name := range names {
		g.Go(func() error {
			errs[i] = w.publish(ctx, w.pending[name])
			return nil
		})
	}
	_ = g.Wait() // errors are kept by file
	var trouble error
	for i, name := range names {
		f := w.pending[name]
		switch err := errs[i]; {
		case err == nil:
			f.since = w.Now()
			w.move(f, Pending, Processing, Event{})
		case ctx.Err() != nil || fault.Of(err).Kind == fault.Unavailable:
			if trouble == nil {
				trouble = fmt.Errorf("waiting to publish %d files: %w", len(w.pending), err)
			}
		default:
			w.move(f, Pending, Failed, Event{Error: err.Error()})
		}
	}
	if trouble != nil {
		w.resume = w.Now().Add(troublePause)
	}
	return trouble
}

// publish publishes one file under the file_id that it will always have.
func (w *Watcher) publish(ctx context.Context, f *watchedFile) error {
	now, body, err := w.load(Pending, f.name)
	if err != nil {
		return err
	}
	*f = *now // it may have been edited
	a := w.Address
	if a.FileID = f.id; f.bad {
		// Ingest makes it a dead letter under an id of its own.
		a.FileID = ""
	}
	_, err = w.Publisher.Publish(ctx, Input{File: originalName(f.name), Body: body}, a)
	return err
}

// settle moves the files whose documents have ended.
func (w *Watcher) settle(ctx context.Context) error {
	files := slices.Collect(maps.Values(w.processing))
	ends := make([]*Event, len(files))
	var g errgroup.Group
	g.SetLimit(watchParallel)
	for i, f := range files {
		g.Go(func() (err error) {
			if f.bad {
				ends[i], err = w.badEnd(ctx, f)
			} else {
				ends[i], err = w.end(ctx, f)
			}
			return err
		})
	}
	err := g.Wait()
	for i, f := range files {
		if ends[i] != nil {
			w.move(f, Processing, ends[i].State, *ends[i])
		}
	}
	if err != nil {
		return fmt.Errorf("waiting for the end of %d documents: %w", len(w.processing), err)
	}
	return nil
}
