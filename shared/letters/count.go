package letters

import (
	"slices"
	"strings"

	"github.com/jobspy/millrace/shared/contract"
)

// Count is how many dead letters one stage has for one reason.
type Count struct {
	Stage  contract.Stage  `json:"stage"`
	Reason contract.Reason `json:"reason"`
	Count  int             `json:"count"`
}

// CountLetters counts letters by stage and reason, in the order of the line.
func CountLetters(letters []Letter) []Count {
	var counts []Count
	for i := range letters {
		l := &letters[i]
		at := slices.IndexFunc(counts, func(c Count) bool { return c.Stage == l.Stage && c.Reason == l.Reason })
		if at < 0 {
			at = len(counts)
			counts = append(counts, Count{Stage: l.Stage, Reason: l.Reason})
		}
		counts[at].Count++
	}
	slices.SortStableFunc(counts, func(a, b Count) int {
		if d := slices.Index(contract.Stages(), a.Stage) - slices.Index(contract.Stages(), b.Stage); d != 0 {
			return d
		}
		return strings.Compare(string(a.Reason), string(b.Reason))
	})
	return counts
}
