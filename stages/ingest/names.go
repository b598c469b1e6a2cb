package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// lookAgain is how long it is believed that there are no marks.
const lookAgain = time.Minute

// names gives each file name to one document, for good.
//
// Two documents of one name have one date, but they may have two providers or tasks, for the
// name does not say where one ends and the next begins. So the object by_date is what
// reserves the name, and where by_date is not kept a mark does: an empty object of the same
// date and name. Where the policy changes between two documents one has the object and the
// other wants the mark, so each looks for the other's before and after it writes its own.
//
// Whoever keeps by_date looks for marks only where there are any, which it asks once a
// minute: in the first minute after by_date is kept again, a process may miss a mark that
// another process made, and the later document then replaces the earlier in the views that
// both are in.
type names struct {
	objects Objects
	clock   func() time.Time

	mu     sync.Mutex
	marked bool      // there are marks, or have been
	looked time.Time // when there were none
}

// reserve gives the name of in to it, unless another document has it, and stores the first
// of objects where that is what reserves. It returns those that are still to be stored.
func (n *names) reserve(ctx context.Context, in *doc.Document, objects []store.Object) (rest []store.Object, ours bool, err error) {
	m := &in.Metadata
	byDate := doc.Views(contract.ClassRaw, []contract.View{contract.ByDate}, m.CreatedAt, "", "", in.Name)[0]
	mark := store.Ref{Bucket: contract.BucketRaw, Key: contract.NamePrefix + doc.Date(m.CreatedAt) + "/" + in.Name}
	if objects[0].Ref != byDate {
		n.mu.Lock()
		n.marked = true
		n.mu.Unlock()
		own := store.Object{Ref: mark, Meta: map[string]string{contract.MetaFileID: m.FileID}, CreateOnly: true}
		ours, err = n.takeBeside(ctx, own, byDate, m.FileID)
		return objects, ours, err
	}
	objects[0].CreateOnly = true
	marked, err := n.anyMarks(ctx)
	switch {
	case err != nil:
		return nil, false, err
	case marked:
		ours, err = n.takeBeside(ctx, objects[0], mark, m.FileID)
	default:
		ours, _, err = n.take(ctx, objects[0], m.FileID)
	}
	return objects[1:], ours, err
}

// takeBeside is take where another document may have the name by the object other.
func (n *names) takeBeside(ctx context.Context, own store.Object, other store.Ref, fileID string) (bool, error) {
	free, err := n.free(ctx, other, fileID)
	if err != nil {
		return false, err
	}
	if !free { // but it may only want it: then it was ours before
		ours, err := n.owns(ctx, own.Ref, fileID)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		return ours, err
	}
	ours, fresh, err := n.take(ctx, own, fileID)
	if err != nil || !fresh {
		return ours, err
	}
	if free, err = n.free(ctx, other, fileID); err == nil && !free {
		err = n.objects.Delete(ctx, own.Ref)
	}
	return free, err
}

// take stores o unless its key is taken. It says whether the key is the document's, and
// whether it became that just now.
func (n *names) take(ctx context.Context, o store.Object, fileID string) (ours, fresh bool, err error) {
	var put error
	if errs := n.objects.Put(ctx, o); len(errs) > 0 {
		put = errs[0]
	}
	if put == nil {
		return true, true, nil
	}
	if !errors.Is(put, store.ErrExists) {
		return false, false, put
	}
	ours, err = n.owns(ctx, o.Ref, fileID)
	return ours, false, err
}

// owns says whether the object r is the document's.
func (n *names) owns(ctx context.Context, r store.Ref, fileID string) (bool, error) {
	info, err := n.objects.Stat(ctx, r)
	if err != nil {
		return false, fmt.Errorf("read the owner of %s: %w", r, err)
	}
	return info.Meta[contract.MetaFileID] == fileID, nil
}

// free says whether no other document has r.
func (n *names) free(ctx context.Context, r store.Ref, fileID string) (bool, error) {
	ours, err := n.owns(ctx, r, fileID)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return ours, err
}

// anyMarks reports whether names may be reserved by marks.
func (n *names) anyMarks(ctx context.Context) (bool, error) {
	now := n.clock()
	n.mu.Lock()
	marked, looked := n.marked, n.looked
	n.mu.Unlock()
	if marked || !looked.IsZero() && now.Before(looked.Add(lookAgain)) {
		return marked, nil
	}
	for _, err := range n.objects.List(ctx, contract.BucketRaw, contract.NamePrefix) {
		if err != nil {
			return false, fmt.Errorf("look for marks of names: %w", err)
		}
		marked = true
		break
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.marked, n.looked = n.marked || marked, now
	return n.marked, nil
}
