package letters

import (
	"cmp"
	"slices"
	"time"

	"github.com/jobspy/millrace/shared/contract"
)

// Group is the dead letters that seem to have one cause.
type Group struct {
	ID     string          `json:"id"` // stable: of stage, reason and shape
	Stage  contract.Stage  `json:"stage"`
	Reason contract.Reason `json:"reason"`
	Shape  string          `json:"shape"` // of the error
	Count  int             `json:"count"`
	First  time.Time       `json:"first_failed_at"`
	Last   time.Time       `json:"last_failed_at"`
	Sample uint64          `json:"sample_seq"` // the newest of them
}

// GroupLetters groups letters by stage, reason and the shape of their errors, the largest group
// first.
func GroupLetters(letters []Letter) []Group {
	found := map[string]*Group{}
	for i := range letters {
		l := &letters[i]
		g := found[l.Group]
		if g == nil {
			g = &Group{ID: l.Group, Stage: l.Stage, Reason: l.Reason, Shape: Shape(l.Error), First: l.FailedAt, Last: l.FailedAt}
			found[l.Group] = g
		}
		g.Count++
		g.Sample = max(g.Sample, l.Seq)
		if l.FailedAt.Before(g.First) {
			g.First = l.FailedAt
		}
		if l.FailedAt.After(g.Last) {
			g.Last = l.FailedAt
		}
	}
	groups := make([]Group, 0, len(found))
	for _, g := range found {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b Group) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.ID, b.ID)) })
	return groups
}
