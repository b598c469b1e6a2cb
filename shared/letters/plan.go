package letters

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
)

// Plan is what a job does. It is written once.
type Plan struct {
	Replay

	// Rate bounds how many are sent in a second; 0 means no bound.
	Rate float64 `json:"rate,omitzero"`
	// Canary is how many are sent first and waited for. One of them that comes back stops the
	// job. 0 means none.
	Canary int `json:"canary,omitzero"`
	// StopAbove is the share of the replays, from 0 to 1, above which so many that come back
	// stop the job; nil means that none does.
	StopAbove *float64 `json:"stop_above,omitzero"`
	// Again sends those too that have been replayed already.
	Again bool `json:"again,omitzero"`
	// Seqs are the dead letters, oldest first.
	Seqs Seqs `json:"seqs"`
}

// Seqs are sequences in rising order. As text they take one or two bytes each where they lie
// close together, so that those of a large job fit one message.
type Seqs []uint64

var seqsText = base64.RawStdEncoding

var errSeqs = errors.New("the list of dead letters is damaged")

// MarshalText implements encoding.TextMarshaler.
func (s Seqs) MarshalText() ([]byte, error) {
	var b []byte
	last := uint64(0)
	for _, seq := range s {
		if seq <= last {
			return nil, errSeqs
		}
		b = binary.AppendUvarint(b, seq-last)
		last = seq
	}
	return []byte(seqsText.EncodeToString(b)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Seqs) UnmarshalText(text []byte) error {
	b, err := seqsText.DecodeString(string(text))
	if err != nil {
		return errSeqs
	}
	*s = nil
	for last := uint64(0); len(b) > 0; {
		step, n := binary.Uvarint(b)
		if n <= 0 || step == 0 || last+step < last {
			return errSeqs
		}
		last += step
		*s = append(*s, last)
		b = b[n:]
	}
	return nil
}

// seqsOf returns the sequences of letters, without those of a document's older letters: only
// its newest state is to be replayed.
func seqsOf(letters []Letter) Seqs {
	newest := map[string]int{}
	for i := range letters {
		if at, ok := newest[letters[i].FileID]; !ok || letters[at].Replays <= letters[i].Replays {
			newest[letters[i].FileID] = i
		}
	}
	var seqs Seqs
	for i := range letters {
		if letters[i].FileID == "" || newest[letters[i].FileID] == i {
			seqs = append(seqs, letters[i].Seq)
		}
	}
	slices.Sort(seqs)
	return slices.Compact(seqs)
}
