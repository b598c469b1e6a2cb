package announce_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"github.com/jobspy/millrace/shared/announce"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/slot"
	"github.com/jobspy/millrace/shared/store"
)

// heard is an Announcer that remembers.
type heard struct{ bodies []string }

func (h *heard) Announce(_ string, _ bus.Header, body []byte) error {
	h.bodies = append(h.bodies, string(body))
	return errors.New("nobody listens, which is no matter")
}

func ref(n int) store.Ref { return store.Ref{Bucket: "b", Key: fmt.Sprintf("k%d", n)} }

func TestWhatIsThereAfterAPutIsAnnounced(t *testing.T) {
	t.Parallel()
	memory := store.NewMemory(nil)
	_, err := memory.EnsureBucket(t.Context(), "b")
	require.NoError(t, err)
	h := &heard{}
	s := announce.NewStore(memory, h, "llm.stored.validate")

	require.Nil(t, s.Put(t.Context(), store.Object{Ref: ref(1)}, store.Object{Ref: ref(2)}))
	require.Equal(t, []string{"b/k1\nb/k2"}, h.bodies)

	errs := s.Put(t.Context(), store.Object{Ref: ref(1), CreateOnly: true}, store.Object{Ref: store.Ref{Bucket: "none", Key: "k"}})
	require.ErrorIs(t, errs[0], store.ErrExists)
	require.Error(t, errs[1])
	require.Equal(t, "b/k1", h.bodies[1], "what was there is there, what failed is not")

	errs = s.Put(t.Context(), store.Object{Ref: store.Ref{Bucket: "none", Key: "k"}})
	require.Error(t, errs[0])
	require.Len(t, h.bodies, 2, "nothing to say")
}

func TestAwait(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		hear    []string // before the wait
		later   []string // a second after it began
		refs    []store.Ref
		missing []store.Ref
		took    time.Duration
	}{
		{"all were announced before", []string{"b/k1\nb/k2"}, nil, []store.Ref{ref(1), ref(2)}, nil, 0},
		{"the last one is announced meanwhile", []string{"b/k1"}, []string{"b/k3", "b/k2"}, []store.Ref{ref(1), ref(2)}, nil, time.Second},
		{"one is never announced", []string{"b/k1"}, []string{"b/k3"}, []store.Ref{ref(1), ref(2), ref(3)}, []store.Ref{ref(2)}, 5 * time.Second},
		{"one is named twice", nil, []string{"b/k1"}, []store.Ref{ref(1), ref(1)}, nil, time.Second},
		{"nothing is waited for", nil, nil, nil, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := announce.NewWitness(0)
				for _, body := range tt.hear {
					w.Hear([]byte(body))
				}
				time.AfterFunc(time.Second, func() {
					for _, body := range tt.later {
						w.Hear([]byte(body))
					}
				})
				began := time.Now()
				require.Equal(t, tt.missing, w.Await(t.Context(), tt.refs, 5*time.Second))
				require.Equal(t, tt.took, time.Since(began))
				w.Await(t.Context(), []store.Ref{{Bucket: "b", Key: "never"}}, time.Second) // the timer of the test ends in its bubble
			})
		})
	}
}

func TestAWaitHoldsNoSlotAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := semaphore.NewWeighted(1)
		require.NoError(t, all.Acquire(t.Context(), 1))
		ctx, cancel := context.WithCancel(slot.With(t.Context(), slot.New(all)))
		time.AfterFunc(time.Second, func() {
			require.True(t, all.TryAcquire(1), "somebody else may work meanwhile")
			cancel()
		})
		w := announce.NewWitness(0)
		require.Equal(t, []store.Ref{ref(1)}, w.Await(ctx, []store.Ref{ref(1)}, time.Hour))
	})
}

func TestAWitnessForgetsTheOldestGeneration(t *testing.T) {
	t.Parallel()
	w := announce.NewWitness(10)
	for n := range 25 {
		w.Hear([]byte(ref(n).String()))
	}
	require.Equal(t, []store.Ref{ref(0)}, w.Await(t.Context(), []store.Ref{ref(0)}, 0))
	require.Nil(t, w.Await(t.Context(), []store.Ref{ref(12), ref(24)}, 0))
}
