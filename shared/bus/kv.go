package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/slot"
)

// What a bucket is in the broker: a stream whose subjects are keys.
const (
	kvStreamPrefix  = "KV_"
	kvSubjectPrefix = "$KV."
	operationDelete = "DEL"
)

// ErrKey is returned for a key that is empty or holds other characters than [A-Za-z0-9_.=/-].
var ErrKey = errors.New("key is not valid")

// bucket is a KV of JetStream. It writes with plain publishes, because the client library
// has no time to live for updates; what it writes is what the library and the nats
// command read.
type bucket struct {
	j       *JetStream
	name    string
	stream  string
	prefix  string
	markers time.Duration // how long a deletion is remembered; 0 means for ever
	// copies says that several servers keep the bucket. Any of them answers a direct get, with
	// what it knows so far, so that only the leader may be asked.
	copies bool
}

var _ KV = (*bucket)(nil)

// KV implements Bus.
func (j *JetStream) KV(ctx context.Context, name string) (KV, error) {
	info, err := j.streamInfo(ctx, kvStreamPrefix+name)
	if err != nil {
		return nil, fmt.Errorf("bind to bucket %q: %w", name, err)
	}
	b := &bucket{j: j, name: name, stream: kvStreamPrefix + name, prefix: kvSubjectPrefix + name + "."}
	b.copies = info.Config.Replicas > 1
	if info.Config.MsgTTL {
		b.markers = time.Duration(info.Config.MarkerTTL)
	}
	return b, nil
}

// checkKey refuses what is not a key. A dot at either end, or two in a row, make an empty
// token, which the broker refuses.
func checkKey(key string) error {
	bad := strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.=/-", r)
	})
	if bad || key == "" || key[0] == '.' || key[len(key)-1] == '.' || strings.Contains(key, "..") {
		return fmt.Errorf("%w: %q", ErrKey, key)
	}
	return nil
}

func (b *bucket) Get(ctx context.Context, key string) (Entry, error) {
	m, err := b.last(ctx, key)
	if err == nil && deleted(m) {
		err = ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read key %q of %q: %w", key, b.name, err)
	}
	return Entry{Value: m.Body, Revision: m.Seq}, nil
}

func (b *bucket) last(ctx context.Context, key string) (*Stored, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	defer slot.Pause(ctx)()
	if b.copies {
		return b.j.get(ctx, b.stream, getRequest{LastFor: b.prefix + key})
	}
	return b.j.direct(ctx, b.stream, b.prefix+key)
}

// deleted reports whether m only says that its key is gone.
func deleted(m *Stored) bool {
	return m.Header[headerOperation] != "" || m.Header[headerMarkerReason] != ""
}

func (b *bucket) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	rev, err := b.write(ctx, key, value, ttl, expect(0))
	if errors.Is(err, ErrRevision) {
		// Something is there. What only says that the key is gone may be replaced.
		m, readErr := b.last(ctx, key)
		switch {
		case readErr == nil && deleted(m):
			rev, err = b.write(ctx, key, value, ttl, expect(m.Seq))
		case errors.Is(readErr, ErrNotFound):
			rev, err = b.write(ctx, key, value, ttl, expect(0))
		case readErr != nil:
			err = readErr
		}
	}
	if errors.Is(err, ErrRevision) {
		err = ErrExists
	}
	if err != nil {
		return 0, fmt.Errorf("create key %q of %q: %w", key, b.name, err)
	}
	return rev, nil
}

func (b *bucket) Update(ctx context.Context, key string, value []byte, rev uint64, ttl time.Duration) (uint64, error) {
	rev, err := b.write(ctx, key, value, ttl, expect(rev))
	if err != nil {
		return 0, fmt.Errorf("update key %q of %q: %w", key, b.name, err)
	}
	return rev, nil
}

func (b *bucket) Put(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	rev, err := b.write(ctx, key, value, ttl, nil)
	if err != nil {
		return 0, fmt.Errorf("set key %q of %q: %w", key, b.name, err)
	}
	return rev, nil
}

func (b *bucket) Delete(ctx context.Context, key string) error {
	_, err := b.write(ctx, key, nil, b.markers, nats.Header{headerOperation: {operationDelete}})
	if err != nil {
		return fmt.Errorf("delete key %q of %q: %w", key, b.name, err)
	}
	return nil
}

// expect makes a write depend on the key's revision; 0 means that there is none.
func expect(rev uint64) nats.Header {
	return nats.Header{headerExpectedRevision: {strconv.FormatUint(rev, 10)}}
}

func (b *bucket) write(ctx context.Context, key string, value []byte, ttl time.Duration, h nats.Header) (uint64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	if ttl > 0 {
		if h == nil {
			h = nats.Header{}
		}
		h[headerTTL] = []string{wholeSeconds(ttl).String()}
	}
	ack, err := b.j.sendRaw(ctx, &nats.Msg{Subject: b.prefix + key, Header: h, Data: value})
	if err != nil {
		if errors.Is(err, ErrRevision) || errors.Is(err, ErrTooLarge) {
			return 0, err
		}
		return 0, fault.Down(err)
	}
	return ack.Seq, nil
}

// wholeSeconds rounds up: the broker cuts to seconds and takes none under one.
func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
