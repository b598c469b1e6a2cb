package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jobspy/millrace/schemas"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
)

// providers are those whose documents the corpus has, in turn.
func providers() []string { return []string{"openai", "anthropic", "google", "deepseek"} }

// document is one document of the corpus.
type document struct {
	id, provider string
	body         []byte
}

func (d document) subject() string {
	return contract.RawSubject(string(contract.JobExtraction), d.provider, "")
}

// corpus makes documents that ask for no jobs from outside, in the shapes of the sample
// documents. The same corpus makes the same documents. It may be used concurrently.
type corpus struct {
	run  string // part of each id and session, so that no two runs share a name
	seed uint64
	size int // of each document, in bytes; what is larger without any text stays larger
	at   time.Time

	jobs []map[string]codec.Value // samples, each with a title
}

func newCorpus(run string, seed uint64, size int, at time.Time) (*corpus, error) {
	jobs, err := sampleJobs()
	if err != nil {
		return nil, fmt.Errorf("read the sample documents: %w", err)
	}
	return &corpus{run: run, seed: seed, size: size, at: at.UTC(), jobs: jobs}, nil
}

// sampleJobs returns the jobs of the sample documents that their schema accepts.
func sampleJobs() ([]map[string]codec.Value, error) {
	names, err := fs.Glob(schemas.Examples(), "*_"+string(contract.JobExtraction)+"_*.json")
	if err != nil {
		return nil, err
	}
	var all []map[string]codec.Value
	for _, name := range names {
		body, err := fs.ReadFile(schemas.Examples(), name)
		if err != nil {
			return nil, err
		}
		var envelope struct {
			Content struct {
				Jobs []map[string]codec.Value `json:"jobs"`
			} `json:"content"`
			Choices []struct {
				Message struct {
					Content string `json:"content"`
				} `json:"message"`
			} `json:"choices"`
		}
		if err := codec.Unmarshal(body, &envelope); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		jobs := envelope.Content.Jobs
		for _, c := range envelope.Choices {
			var job map[string]codec.Value
			if err := codec.Unmarshal([]byte(c.Message.Content), &job); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			jobs = append(jobs, job)
		}
		for _, j := range jobs {
			if codec.KindOf(j["title"]) == '"' { // else its schema refuses it, as one sample shows
				all = append(all, j)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("none has a job with a title")
	}
	return all, nil
}

// prefix begins the file_id of each document of a run.
func prefix(run string) string { return "bench-" + run + "-" }

// document makes document number i.
func (c *corpus) document(i int) (document, error) {
	chance := rand.New(rand.NewPCG(c.seed, uint64(i))) //nolint:gosec // documents are to come out the same again
	d := document{id: fmt.Sprintf("%s%07d", prefix(c.run), i), provider: providers()[i%len(providers())]}
	jobs := []map[string]codec.Value{maps.Clone(c.jobs[chance.IntN(len(c.jobs))])}
	if chance.IntN(2) == 0 {
		jobs = append(jobs, maps.Clone(c.jobs[chance.IntN(len(c.jobs))]))
	}
	write := func(text string) (err error) {
		if jobs[0]["description"], err = codec.Marshal(text); err != nil {
			return err
		}
		d.body, err = codec.Marshal(map[string]any{
			"metadata": map[string]any{
				"file_id": d.id, "created_at": c.at.Format(time.RFC3339), "task_type": contract.JobExtraction,
				"llm_provider": d.provider, "model_name": "bench", "session_id": fmt.Sprintf("%s-%d", c.run, i),
				"schema": "job_extraction/1",
			},
			"content": map[string]any{"jobs": jobs},
		})
		return err
	}
	err := write("")
	if missing := c.size - len(d.body); err == nil && missing > 0 {
		err = write(prose(chance, missing))
	}
	if err != nil {
		return d, fmt.Errorf("make document %d: %w", i, err)
	}
	return d, nil
}

// words are what descriptions are grown from.
const words = "the team looks for an engineer who builds and runs services writes tests reviews code " +
	"plans work with others learns quickly and cares about people python go sql linux docker kubernetes " +
	"cloud data pipelines full time remote hybrid salary benefits leave pension training mentoring"

// prose returns n letters and blanks that read like words.
func prose(chance *rand.Rand, n int) string {
	all := strings.Fields(words)
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(all[chance.IntN(len(all))])
		b.WriteByte(' ')
	}
	return b.String()[:n]
}
