package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// recordsOf calls take for the records of the period that the stream still holds and that are
// said to be archived, until it returns false.
func (v *verification) recordsOf(ctx context.Context, take func(*bus.Stored) bool) error {
	from, err := v.Records.SeqAt(ctx, contract.StreamCompleted, v.period.Start)
	if err != nil || from > v.state.LastSeq {
		return err
	}
	for m, err := range v.Records.Scan(ctx, contract.StreamCompleted, "", from) {
		if err != nil {
			return err
		}
		if m.Seq > v.state.LastSeq || !m.Time.Before(v.period.End) {
			return nil
		}
		if v.period.Contains(m.Time) && !Held(m) && !take(m) {
			return nil
		}
	}
	return nil
}

// records holds a daily volume against the stream of records.
func (v *verification) records(ctx context.Context) error {
	if v.state == nil {
		return nil
	}
	info, err := v.Records.Info(ctx, contract.StreamCompleted)
	if err != nil || info.LastSeq < v.state.LastSeq {
		return err // where the stream began anew, nothing in it is archived
	}
	err = v.recordsOf(ctx, func(m *bus.Stored) bool {
		v.record(m)
		return true
	})
	if err != nil {
		return err
	}
	// Now that all were read: what is older than the first has left the stream.
	if info, err = v.Records.Info(ctx, contract.StreamCompleted); err != nil {
		return err
	}
	for _, id := range v.left() {
		if id.epoch == v.state.Epoch && id.seq >= info.FirstSeq && info.Messages > 0 {
			v.problem(Problem{Key: v.period.String(), Seq: id.seq, What: contract.StreamCompleted + " has no such record of this day"})
		}
	}
	return nil
}

// record looks for a record of the stream in the volume.
func (v *verification) record(m *bus.Stored) {
	v.report.Compared++
	id := recordID{v.state.Epoch, m.Seq}
	have, ok := v.seen[id]
	if !ok {
		v.problem(Problem{Key: v.period.String(), Seq: m.Seq, FileID: m.Header[contract.HeaderFileID], What: "it is in no part"})
		return
	}
	delete(v.seen, id)
	sum, err := New(m).recordDigest()
	if have.at != m.Time.UnixNano() || have.exact && (err != nil || sum != have.sum) {
		v.problem(Problem{
			Key: v.period.String(), Seq: m.Seq, FileID: m.Header[contract.HeaderFileID],
			What: "it is not the record that " + contract.StreamCompleted + " holds",
		})
	}
}

// merged holds a weekly or monthly volume against the daily ones that exist.
func (v *verification) merged(ctx context.Context, m *Manifest) error {
	sources := map[string]string{}
	for i := range m.Parts {
		for _, s := range m.Parts[i].Sources {
			if _, twice := sources[s.Key]; twice {
				v.problem(Problem{Key: m.Parts[i].Key, What: s.Key + " is in the volume twice"})
			}
			sources[s.Key] = s.SHA256
		}
	}
	exist := map[string]bool{}
	for _, day := range v.period.Days() {
		daily, err := Open(ctx, v.Store, day)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue
		case v.damage(err):
			continue
		case err != nil:
			return err
		}
		exist[day.Name] = true
		for i := range daily.Manifest.Parts {
			if err := v.source(ctx, daily, &daily.Manifest.Parts[i], sources); err != nil {
				return err
			}
		}
	}
	for _, id := range v.left() {
		if day := Day(time.Unix(0, v.seen[id].at)); exist[day.Name] {
			v.problem(Problem{Key: v.period.String(), Seq: id.seq, What: day.String() + " has no such document"})
		}
	}
	return nil
}

// source holds one daily part against the volume.
func (v *verification) source(ctx context.Context, daily *Volume, p *Part, sources map[string]string) error {
	switch sum, ok := sources[p.Key]; {
	case !ok && v.pending():
		return nil // it is merged by the next run
	case !ok:
		v.problem(Problem{Key: v.period.String(), What: p.Key + " is not in it"})
		return nil
	case sum != p.SHA256:
		v.problem(Problem{Key: v.period.String(), What: p.Key + " is not what it was when it was merged"})
		return nil
	}
	for d, err := range daily.partDocuments(ctx, p) {
		if v.damage(err) {
			return nil
		}
		if err != nil {
			return err
		}
		v.report.Compared++
		id := recordID{p.Epoch, d.Seq}
		have, ok := v.seen[id]
		delete(v.seen, id)
		if !ok || have.sum != digest(d.Line) {
			what := fmt.Sprintf("it is not in the volume as it is in %s", p.Key)
			v.problem(Problem{Key: v.period.String(), Seq: d.Seq, FileID: d.entry().FileID, What: what})
		}
	}
	return nil
}

// pending reports whether daily parts may be waiting to be merged into the period.
func (v *verification) pending() bool {
	if v.state == nil || !v.state.Known {
		return true
	}
	for _, p := range v.state.Pending() {
		if p.String() == v.period.String() {
			return true
		}
	}
	return false
}

// hasDays reports whether there are daily volumes that have to be in the period's volume.
func (v *verification) hasDays(ctx context.Context) (bool, error) {
	if v.pending() {
		return false, nil
	}
	for _, day := range v.period.Days() {
		_, err := v.Store.Stat(ctx, day.Manifest())
		if err == nil || !errors.Is(err, store.ErrNotFound) {
			return err == nil, err
		}
	}
	return false, nil
}
