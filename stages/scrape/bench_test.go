package scrape

import (
	"testing"
	"time"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
)

// A board of 200 jobs, as long as recorded ones, answered from the cache.
func BenchmarkACachedBoard(b *testing.B) {
	var list struct {
		Jobs []codec.Value `json:"jobs"`
	}
	if err := codec.Unmarshal([]byte(captured(b, "gitlab_breteai.json")), &list); err != nil {
		b.Fatal(err)
	}
	for len(list.Jobs) < 200 {
		list.Jobs = append(list.Jobs, list.Jobs[len(list.Jobs)%3])
	}
	body, err := codec.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	s := newBoard(b)
	s.on(jobsPath("acme"), gives(string(body)))
	h := build(b, s.URL, nil, nil)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		outs, err := h.Handle(b.Context(), task(doc.Intent{JobTitle: "python developer"}, 20*time.Second))
		if err != nil || outs[0].Doc.Answer.Status != doc.SourceOK {
			b.Fatal(err)
		}
	}
}
