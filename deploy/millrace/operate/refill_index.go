package operate

import (
	"cmp"
	"context"
	"hash/maphash"
	"path"
	"slices"
	"sync"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// index finds by a name what a stream or a bucket holds. It takes 16 bytes for each entry
// and may name too many, never too few.
type index struct {
	seed    maphash.Seed
	entries []indexed // sorted
}

// indexed is one entry: the hash of its name and where it is.
type indexed struct{ sum, seq uint64 }

func newIndex() *index { return &index{seed: maphash.MakeSeed()} }

func (x *index) add(name string, seq uint64) {
	x.entries = append(x.entries, indexed{maphash.String(x.seed, name), seq})
}

// sort has to be called between the last add and the first find.
func (x *index) sort() {
	slices.SortFunc(x.entries, func(a, b indexed) int {
		return cmp.Or(cmp.Compare(a.sum, b.sum), cmp.Compare(b.seq, a.seq))
	})
}

// find returns where entries of a name may be, newest first.
func (x *index) find(name string) []uint64 {
	sum := maphash.String(x.seed, name)
	at, _ := slices.BinarySearchFunc(x.entries, sum, func(e indexed, sum uint64) int { return cmp.Compare(e.sum, sum) })
	var seqs []uint64
	for ; at < len(x.entries) && x.entries[at].sum == sum; at++ {
		seqs = append(seqs, x.entries[at].seq)
	}
	return seqs
}

// indexStream indexes the messages of a stream by their file_id.
func indexStream(ctx context.Context, b bus.Bus, stream string) (*index, error) {
	x := newIndex()
	for m, err := range b.Scan(ctx, stream, "", 0) {
		if err != nil {
			return nil, err
		}
		x.add(m.Header[contract.HeaderFileID], m.Seq)
	}
	x.sort()
	return x, nil
}

// indexLetters indexes the objects of dead letters by their file name.
func indexLetters(ctx context.Context, s store.Store) (*index, error) {
	x := newIndex()
	for info, err := range s.List(ctx, contract.BucketDLQ, "") {
		if err != nil {
			return nil, err
		}
		x.add(path.Base(info.Key), 0)
	}
	x.sort()
	return x, nil
}

// lazy is a value that is made when it is needed first. It may be used concurrently; a value
// that could not be made is tried again.
type lazy[T any] struct {
	mu    sync.Mutex
	made  bool
	value T
}

func (l *lazy[T]) get(build func() (T, error)) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.made {
		v, err := build()
		if err != nil {
			return v, err
		}
		l.value, l.made = v, true
	}
	return l.value, nil
}
