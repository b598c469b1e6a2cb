package bus

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sort"
	"time"
)

// Get implements Bus.
func (m *Memory) Get(ctx context.Context, stream string, seq uint64) (*Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("read message %d of %q: %w", seq, stream, err)
	}
	msg := s.at(seq)
	if msg == nil {
		return nil, fmt.Errorf("read message %d of %q: %w", seq, stream, ErrNotFound)
	}
	return msg, nil
}

// Last implements Bus.
func (m *Memory) Last(ctx context.Context, stream, subject string) (*Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("read the last message on %q of %q: %w", subject, stream, err)
	}
	msg := s.last(subject)
	if msg == nil {
		return nil, fmt.Errorf("read the last message on %q of %q: %w", subject, stream, ErrNotFound)
	}
	return msg, nil
}

// Scan implements Bus. The end is taken when the iteration begins.
func (m *Memory) Scan(ctx context.Context, stream, filter string, from uint64) iter.Seq2[*Stored, error] {
	return func(yield func(*Stored, error) bool) {
		info, err := m.Info(ctx, stream)
		for seq := from; err == nil; {
			var msg *Stored
			if msg, err = m.between(ctx, stream, filter, seq, info.LastSeq); msg == nil {
				break
			}
			if !yield(msg, nil) {
				return
			}
			seq = msg.Seq + 1
		}
		if err != nil {
			yield(nil, fmt.Errorf("scan %q: %w", stream, err))
		}
	}
}

// between returns the first message from sequence from to last that filter matches, nil
// where there is none.
func (m *Memory) between(ctx context.Context, stream, filter string, from, last uint64) (*Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	for seq := max(from, s.base); seq <= last; seq++ {
		if msg := s.at(seq); msg != nil && (filter == "" || Matches(filter, msg.Subject)) {
			return msg, nil
		}
	}
	return nil, nil
}

// SeqAt implements Bus.
func (m *Memory) SeqAt(ctx context.Context, stream string, t time.Time) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("find %s in %q: %w", t.UTC().Format(time.RFC3339), stream, err)
	}
	there := slices.DeleteFunc(slices.Clone(s.msgs), func(m *Stored) bool { return m == nil })
	i := sort.Search(len(there), func(i int) bool { return !there[i].Time.Before(t) })
	if i == len(there) {
		return s.next(), nil
	}
	return there[i].Seq, nil
}

// Delete implements Bus.
func (m *Memory) Delete(ctx context.Context, stream string, seq uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("delete message %d of %q: %w", seq, stream, err)
	}
	if s.cfg.DenyDelete {
		return fmt.Errorf("delete message %d of %q: the stream denies it", seq, stream)
	}
	if !s.remove(seq) {
		return fmt.Errorf("delete message %d of %q: %w", seq, stream, ErrNotFound)
	}
	return nil
}

// Info implements Bus.
func (m *Memory) Info(ctx context.Context, stream string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.stream(ctx, stream)
	if err != nil {
		return Info{}, fmt.Errorf("read state of %q: %w", stream, err)
	}
	info := Info{
		Messages: uint64(s.count), Bytes: uint64(s.bytes), // neither is ever negative
		FirstSeq: s.base, LastSeq: s.next() - 1,
	}
	for _, c := range s.consumers {
		info.Consumers = append(info.Consumers, c.info())
	}
	slices.SortFunc(info.Consumers, func(a, b ConsumerInfo) int { return cmp.Compare(a.Name, b.Name) })
	return info, nil
}

func (c *memConsumer) info() ConsumerInfo {
	i := ConsumerInfo{Name: c.cfg.Name, AckPending: len(c.pending) + len(c.redo)}
	for seq := max(c.next, c.s.base); seq < c.s.next(); seq++ {
		if m := c.s.at(seq); m != nil && c.matches(m.Subject) {
			i.Pending++
		}
	}
	for n := range maps.Values(c.counts) {
		if n > 1 {
			i.Redelivered++
		}
	}
	return i
}
