package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/volume"
)

// keyExpiry is the key of the retention's state in LLM_JOIN.
const keyExpiry = "archive.retention"

// expiryState says when it is worth to look again. Were it lost, the next look would find out
// all of it anew.
type expiryState struct {
	Looked time.Time `json:"looked,omitzero"`
	Next   time.Time `json:"next,omitzero"`  // when views or volumes may be due
	Sweep  time.Time `json:"sweep,omitzero"` // when inbox and claims are gone through
	Policy string    `json:"policy,omitzero"`
	// Verified is the last volume that was found to be sound.
	Verified proof `json:"verified,omitzero"`
	// Removing is the volume whose removal was begun, with the keys of its objects.
	Removing removing `json:"removing,omitzero"`
}

// proof says that a volume was verified.
type proof struct {
	Volume   string    `json:"volume"`
	Manifest string    `json:"manifest_sha256"`
	At       time.Time `json:"at"`
}

// removing is a volume on its way out.
type removing struct {
	Volume   string   `json:"volume"`
	Manifest string   `json:"manifest_object_sha256"` // as it was when the removal was decided
	Keys     []string `json:"keys"`                   // the manifest's first
}

// readState reads the state.
func (e *expiry) readState(ctx context.Context) error {
	entry, err := e.kv.Get(ctx, keyExpiry)
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = codec.Unmarshal(entry.Value, &e.state)
	}
	if err != nil {
		return fmt.Errorf("read the state of the retention: %w", err)
	}
	return nil
}

// writeState writes the state. Nobody else does: the lease is held.
func (e *expiry) writeState(ctx context.Context) error {
	if e.DryRun {
		return nil
	}
	value, err := codec.Marshal(&e.state)
	if err == nil {
		_, err = e.kv.Put(ctx, keyExpiry, value, 0)
	}
	if err != nil {
		return fmt.Errorf("write the state of the retention: %w", err)
	}
	return nil
}

// digest sums up what decides about removing, so that a change of it is seen.
func digest(s policy.Storage) string {
	text, err := codec.Marshal(struct {
		Retention policy.Retention
		Hold      []string
	}{s.Retention, s.LegalHold})
	if err != nil {
		return "" // nothing of it can fail; were it so, each run would look
	}
	return doc.Sum(text)[:16]
}

// dayNote is what lies beside a day's manifest: which classes of its objects were gone through.
type dayNote struct {
	Classes map[string]classNote `json:"classes"`
}

// classNote says how a class of a day was gone through.
type classNote struct {
	Since    time.Time `json:"since"`  // from when the limit counted
	Volume   string    `json:"volume"` // that held the documents
	Manifest string    `json:"manifest_sha256"`
	At       time.Time `json:"at"`
	Removed  int       `json:"removed"`
	Kept     Kept      `json:"kept,omitzero"`
	Hold     string    `json:"hold,omitzero"` // the legal hold that kept some
}

// noteName is the name of a dayNote.
const noteName = "retention.json"

func readDay(ctx context.Context, s store.Store, day volume.Period) (dayNote, error) {
	n := dayNote{}
	_, err := volume.ReadNote(ctx, s, day.Note(noteName), &n)
	if n.Classes == nil {
		n.Classes = map[string]classNote{}
	}
	return n, err
}

// over reports whether there is nothing more to do for the class: it was gone through, and
// neither did its documents become more, nor does something that kept an object have to be
// asked again.
func (n classNote) over(e *expiry, since time.Time, v *volume.Volume) bool {
	if n.At.IsZero() || !n.Since.Equal(since) {
		return false
	}
	if n.Volume == v.Period.String() && n.Manifest != v.Manifest.SHA256 {
		return false
	}
	if n.Kept.Held > 0 && n.Hold != holdDigest(e.deps.Storage()) {
		return false
	}
	return n.Kept.Named == 0 || !e.dueAt(n.At.Add(expireEvery))
}

// holdDigest sums up the legal hold.
func holdDigest(s policy.Storage) string {
	return digest(policy.Storage{LegalHold: s.LegalHold})
}
