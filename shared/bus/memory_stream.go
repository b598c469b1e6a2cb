package bus

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// memStream is one stream of a Memory, whose lock guards it.
type memStream struct {
	m   *Memory
	cfg StreamConfig

	msgs     []*Stored // msgs[i] has sequence base+i; nil where it was removed
	base     uint64
	count    int64
	bytes    int64
	subjects map[string][]uint64 // the sequences of each subject's messages, ascending

	ids       map[string]uint64 // message ids within the window
	idTimes   []memID           // the same, oldest first
	consumers map[string]*memConsumer
}

type memID struct {
	id string
	at time.Time
}

func newMemStream(m *Memory, cfg StreamConfig) *memStream {
	s := &memStream{
		m: m, cfg: cfg, base: 1,
		subjects:  make(map[string][]uint64),
		ids:       make(map[string]uint64),
		consumers: make(map[string]*memConsumer, len(cfg.Consumers)),
	}
	for _, c := range cfg.Consumers {
		s.consumers[c.Name] = newMemConsumer(s, c)
	}
	return s
}

func (s *memStream) takes(subject string) bool {
	for _, f := range s.cfg.Subjects {
		if Matches(f, subject) {
			return true
		}
	}
	return false
}

// next returns the sequence that the next message will have.
func (s *memStream) next() uint64 { return s.base + uint64(len(s.msgs)) }

// at returns the message with a sequence, nil where there is none.
func (s *memStream) at(seq uint64) *Stored {
	if seq < s.base || seq >= s.next() {
		return nil
	}
	return s.msgs[seq-s.base]
}

// size is about what a message takes on the broker's disk.
func size(m *Stored) int64 {
	const record = 30 // length, sequence, time, checksum
	n := record + len(m.Subject) + len(m.Body)
	for k, v := range m.Header {
		n += len(k) + len(v) + len(": \r\n")
	}
	return int64(n)
}

// add stores a message, or says why not. It takes over h.
func (s *memStream) add(subject string, h Header, body []byte) (Receipt, error) {
	now := time.Now()
	s.expire(now)
	id := h[headerMsgID]
	if seq, known := s.ids[id]; known && id != "" {
		return Receipt{Stream: s.cfg.Name, Seq: seq, Duplicate: true}, nil
	}
	m := &Stored{Stream: s.cfg.Name, Seq: s.next(), Time: now.UTC(), Subject: subject, Header: h, Body: body}
	if s.cfg.DiscardNew && s.over(1, size(m)) {
		return Receipt{}, ErrFull
	}
	s.msgs = append(s.msgs, m)
	s.count++
	s.bytes += size(m)
	s.subjects[subject] = append(s.subjects[subject], m.Seq)
	if id != "" && s.cfg.Duplicates > 0 {
		s.ids[id] = m.Seq
		s.idTimes = append(s.idTimes, memID{id, now})
	}
	s.makeRoom(subject)
	s.republish(m)
	for _, c := range s.consumers {
		c.dispatch()
	}
	return Receipt{Stream: s.cfg.Name, Seq: m.Seq}, nil
}

func (s *memStream) over(messages, bytes int64) bool {
	return s.cfg.MaxMsgs > 0 && s.count+messages > s.cfg.MaxMsgs ||
		s.cfg.MaxBytes > 0 && s.bytes+bytes > s.cfg.MaxBytes
}

// makeRoom drops what the limits leave no room for, oldest first.
func (s *memStream) makeRoom(subject string) {
	if n := s.cfg.MaxMsgsPerSubject; n > 0 {
		for int64(len(s.subjects[subject])) > n {
			s.remove(s.subjects[subject][0])
		}
	}
	for !s.cfg.DiscardNew && s.over(0, 0) {
		s.remove(s.base)
	}
}

// expire drops what is too old: messages and message ids.
func (s *memStream) expire(now time.Time) {
	if s.cfg.MaxAge > 0 {
		for len(s.msgs) > 0 && now.Sub(s.msgs[0].Time) >= s.cfg.MaxAge {
			s.remove(s.base)
		}
	}
	for len(s.idTimes) > 0 && now.Sub(s.idTimes[0].at) >= s.cfg.Duplicates {
		delete(s.ids, s.idTimes[0].id)
		s.idTimes = s.idTimes[1:]
	}
}

// remove takes a message out for good and reports whether it was there. The first message
// of msgs is never nil afterwards.
func (s *memStream) remove(seq uint64) bool {
	m := s.at(seq)
	if m == nil {
		return false
	}
	s.msgs[seq-s.base] = nil
	s.count--
	s.bytes -= size(m)
	seqs := s.subjects[m.Subject]
	for i, q := range seqs {
		if q == seq {
			seqs = append(seqs[:i:i], seqs[i+1:]...)
			break
		}
	}
	if len(seqs) == 0 {
		delete(s.subjects, m.Subject)
	} else {
		s.subjects[m.Subject] = seqs
	}
	for len(s.msgs) > 0 && s.msgs[0] == nil {
		s.msgs = s.msgs[1:]
		s.base++
	}
	for _, c := range s.consumers {
		c.forget(seq)
	}
	return true
}

// last returns the newest message on a subject, which may hold wildcards.
func (s *memStream) last(filter string) *Stored {
	if seqs := s.subjects[filter]; len(seqs) > 0 {
		return s.at(seqs[len(seqs)-1])
	}
	for _, m := range slices.Backward(s.msgs) {
		if m != nil && Matches(filter, m.Subject) {
			return m
		}
	}
	return nil
}

// republish sends the headers of a stored message on, where the stream says so.
func (s *memStream) republish(m *Stored) {
	r := s.cfg.RePublish
	if r == nil || !Matches(r.Source, m.Subject) {
		return
	}
	h := maps.Clone(m.Header)
	if h == nil {
		h = Header{}
	}
	h[headerStream] = m.Stream
	h[headerSubject] = m.Subject
	h[headerSequence] = strconv.FormatUint(m.Seq, 10)
	h[headerTimeStamp] = m.Time.Format(time.RFC3339Nano)
	h[headerMsgSize] = strconv.Itoa(len(m.Body))
	delete(h, headerMsgID) // the copy is another message
	to := r.Destination
	if source, all := trimTail(r.Source); all {
		destination, _ := trimTail(r.Destination)
		to = destination + m.Subject[len(source):]
	}
	s.m.offer(to, h, nil)
}

// trimTail cuts a ">" at the end of a subject and reports whether there was one.
func trimTail(subject string) (string, bool) {
	if n := len(subject); n > 0 && subject[n-1] == '>' {
		return subject[:n-1], true
	}
	return subject, false
}
