package volume

import (
	"context"
	"iter"
)

// Listed is an entry of an index and the part whose index it is.
type Listed struct {
	Entry

	Part *Part
}

// Entries yields what the indexes of the volume say about its documents, part by part, in the
// order of file_id within each. Parts without an index are read whole.
func (v *Volume) Entries(ctx context.Context) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		for i := range v.Manifest.Parts {
			p := &v.Manifest.Parts[i]
			x, err := v.fullIndex(ctx, p)
			if err != nil {
				yield(Listed{}, err)
				return
			}
			for j := range x.Documents {
				if !yield(Listed{x.Documents[j], p}, nil) {
					return
				}
			}
		}
	}
}
