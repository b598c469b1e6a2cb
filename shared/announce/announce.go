// Package announce lets whoever needs objects know that they are stored, without asking the
// store: who stored them says so over the broker, to whoever listens right now. An
// announcement costs no disk write and may get lost, so that who misses one asks the store.
package announce

import (
	"context"
	"errors"
	"strings"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/store"
)

// maxBody is about the most bytes of names in one announcement.
const maxBody = 64 << 10

// Announcer is what is needed of the broker to announce.
type Announcer interface {
	Announce(subject string, h bus.Header, body []byte) error
}

// Store is a store whose puts are announced. It is as concurrent as what it wraps.
type Store struct {
	store.Store
	bus     Announcer
	subject string
}

// NewStore returns s with each object that is there after a put announced on subject.
func NewStore(s store.Store, b Announcer, subject string) *Store {
	return &Store{Store: s, bus: b, subject: subject}
}

// Put implements store.Store. What was there already, which a create-only put reports, is
// announced as well. An announcement that cannot be sent is forgotten.
func (s *Store) Put(ctx context.Context, objects ...store.Object) []error {
	errs := s.Store.Put(ctx, objects...)
	var names strings.Builder
	send := func() {
		if names.Len() > 0 {
			_ = s.bus.Announce(s.subject, nil, []byte(names.String()))
			names.Reset()
		}
	}
	for i, o := range objects {
		if errs != nil && errs[i] != nil && !errors.Is(errs[i], store.ErrExists) {
			continue
		}
		if names.Len() > 0 {
			names.WriteByte('\n')
		}
		names.WriteString(o.String())
		if names.Len() >= maxBody {
			send()
		}
	}
	send()
	return errs
}

// GetRange implements store.Ranger over whatever the store below can.
func (s *Store) GetRange(ctx context.Context, r store.Ref, offset, n int64) ([]byte, error) {
	return store.GetRange(ctx, s.Store, r, offset, n)
}
