package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Publish implements Bus.
func (m *Memory) Publish(ctx context.Context, msg Message) (Receipt, error) {
	if err := checkMessage(msg); err != nil {
		return Receipt{}, fmt.Errorf("publish to %q: %w", msg.Subject, err)
	}
	h := cleaned(msg.Header)
	if msg.ID != "" {
		h[headerMsgID] = msg.ID
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard(msg.Subject, h, msg.Body)
	r, _, err := m.store(ctx, msg.Subject, h, msg.Body)
	if err != nil {
		return Receipt{}, publishError(msg.Subject, err)
	}
	return r, nil
}

// cleaned copies headers as they are after a journey over the wire.
func cleaned(h Header) Header {
	out := make(Header, len(h)+2)
	for k, v := range h {
		out[k] = strings.TrimSpace(strings.NewReplacer("\r", " ", "\n", " ").Replace(v))
	}
	return out
}

// store stores a message in the stream that takes its subject. The lock is held.
func (m *Memory) store(ctx context.Context, subject string, h Header, body []byte) (Receipt, *memStream, error) {
	if err := m.usable(ctx); err != nil {
		return Receipt{}, nil, err
	}
	if size(&Stored{Header: h, Body: body}) > MemoryMaxMessage {
		return Receipt{}, nil, ErrTooLarge
	}
	if len(h) == 0 {
		h = nil
	}
	for _, s := range m.streams {
		if s.takes(subject) {
			r, err := s.add(subject, h, append([]byte(nil), body...))
			return r, s, err
		}
	}
	return Receipt{}, nil, fmt.Errorf("%w takes it", ErrNoStream)
}

// offer publishes without anybody learning whether a stream took it. The lock is held.
func (m *Memory) offer(subject string, h Header, body []byte) {
	m.heard(subject, h, body)
	_, _, _ = m.store(context.Background(), subject, h, body)
}

// heard hands a message to those who listen. The lock is held.
func (m *Memory) heard(subject string, h Header, body []byte) {
	for l, filter := range m.listeners {
		if Matches(filter, subject) {
			l.put(&Stored{Subject: subject, Header: h, Body: body})
		}
	}
}

// Announce implements Bus. As with JetStream, a stream that takes the subject stores it.
func (m *Memory) Announce(subject string, h Header, body []byte) error {
	if err := checkSubject(subject); err != nil {
		return fmt.Errorf("announce on %q: %w", subject, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(context.Background()); err != nil {
		return publishError(subject, err)
	}
	m.offer(subject, cleaned(h), append([]byte(nil), body...))
	return nil
}

// Listen calls fn for each message published on a subject that filter matches from now on,
// one call at a time, until the returned function is called.
func (m *Memory) Listen(filter string, fn func(subject string, h Header, body []byte)) (stop func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(context.Background()); err != nil {
		return nil, fmt.Errorf("listen on %q: %w", filter, err)
	}
	l := newMailbox(func(s *Stored) { fn(s.Subject, s.Header, s.Body) })
	m.listeners[l] = filter
	return func() {
		m.mu.Lock()
		delete(m.listeners, l)
		m.mu.Unlock()
		l.close()
	}, nil
}

// Schedule implements Bus.
func (m *Memory) Schedule(ctx context.Context, msg Message, at time.Time, target string) error {
	return m.schedule(ctx, msg, "@at "+at.UTC().Format(time.RFC3339Nano), target, at, 0)
}

// Every implements Bus.
func (m *Memory) Every(ctx context.Context, msg Message, interval time.Duration, target string) error {
	if interval < minInterval {
		return fmt.Errorf("schedule on %q: interval %s is under %s", msg.Subject, interval, minInterval)
	}
	return m.schedule(ctx, msg, "@every "+interval.String(), target, time.Now().Add(interval), interval)
}

var errNoSchedules = errors.New("its stream takes no schedules, or not for that target")

func (m *Memory) schedule(ctx context.Context, msg Message, when, target string, at time.Time, interval time.Duration) error {
	if err := checkSchedule(msg, target); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return publishError(msg.Subject, err)
	}
	for _, s := range m.streams {
		if s.takes(msg.Subject) && (!s.cfg.Schedules || !s.takes(target)) {
			return publishError(msg.Subject, errNoSchedules)
		}
	}
	h := cleaned(msg.Header)
	h[headerSchedule] = when
	h[headerScheduleTarget] = target
	m.heard(msg.Subject, h, msg.Body)
	r, s, err := m.store(ctx, msg.Subject, h, msg.Body)
	if err != nil {
		return publishError(msg.Subject, err)
	}
	for _, seq := range append([]uint64(nil), s.subjects[msg.Subject]...) {
		if seq != r.Seq {
			s.remove(seq) // one subject holds one schedule
		}
	}
	m.at(at, func(now time.Time) { s.fire(r.Seq, target, now, interval) })
	return nil
}

// fire publishes what a schedule holds, unless it was replaced or removed.
func (s *memStream) fire(seq uint64, target string, now time.Time, interval time.Duration) {
	held := s.at(seq)
	if held == nil {
		return
	}
	h := maps.Clone(held.Header)
	delete(h, headerSchedule)
	delete(h, headerScheduleTarget)
	h[headerScheduler] = held.Subject
	if interval > 0 {
		next := now.Add(interval)
		h[headerScheduleNext] = next.UTC().Format(time.RFC3339Nano)
		s.m.at(next, func(now time.Time) { s.fire(seq, target, now, interval) })
	} else {
		h[headerScheduleNext] = "purge"
		s.remove(seq)
	}
	_, _, _ = s.m.store(context.Background(), target, h, held.Body) // its stream has no limits to refuse it
}
