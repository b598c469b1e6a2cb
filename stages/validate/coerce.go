package validate

import (
	"fmt"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/fault"
)

// members is a JSON object, taken apart.
type members map[string]codec.Value

// coerce brings content into the form of its schema where only the wrapping is missing, and
// says what it did. Content that it does not recognise comes back as it is: the schema says
// then what is wrong.
func coerce(task contract.Task, content codec.Value) (codec.Value, []string, error) {
	switch task {
	case contract.JobExtraction:
		return coerceJobs(content)
	case contract.IntentAnalysis:
		return coerceIntent(content)
	case contract.DataEnrichment, contract.QualityValidation:
	}
	return content, nil, nil
}

func coerceJobs(content codec.Value) (codec.Value, []string, error) {
	switch codec.KindOf(content) {
	case '[':
		return wrap("jobs", content), []string{"/content: array of jobs put into jobs"}, nil
	case '{':
	default:
		return content, nil, nil
	}
	m, err := open(content)
	if err != nil {
		return nil, nil, err
	}
	jobs, hasJobs := m["jobs"]
	job, hasJob := m["job"]
	switch {
	case hasJobs && codec.KindOf(jobs) == '{':
		m["jobs"] = list(jobs)
		return closed(m, "/content/jobs: one job put into an array")
	case hasJobs:
		return content, nil, nil
	case hasJob && codec.KindOf(job) == '{':
		delete(m, "job")
		m["jobs"] = list(job)
		return closed(m, "/content/job: put into jobs")
	case hasJob && codec.KindOf(job) == '[':
		delete(m, "job")
		m["jobs"] = job
		return closed(m, "/content/job: array of jobs put into jobs")
	case isJob(m):
		return wrap("jobs", list(content)), []string{"/content: one job put into jobs"}, nil
	}
	return content, nil, nil
}

func coerceIntent(content codec.Value) (codec.Value, []string, error) {
	if codec.KindOf(content) != '{' {
		return content, nil, nil
	}
	m, err := open(content)
	if err != nil {
		return nil, nil, err
	}
	_, wrapped := m["intent"]
	_, bare := m["is_job_related"]
	if wrapped || !bare {
		return content, nil, nil
	}
	return wrap("intent", content), []string{"/content: intent put into intent"}, nil
}

// isJob reports whether an object is one job: it has a title, or at least two other members
// of a job, so that the schema's error speaks of the missing title.
func isJob(m members) bool {
	if _, ok := m["title"]; ok {
		return true
	}
	n := 0
	for _, name := range []string{"company", "location", "salary", "job_type", "description", "url", "posted_at"} {
		if _, ok := m[name]; ok {
			n++
		}
	}
	return n >= 2
}

func open(content codec.Value) (members, error) {
	var m members
	if err := codec.Unmarshal(content, &m); err != nil {
		return nil, fault.Permanently(contract.ReasonMalformed, fmt.Errorf("read content as an object: %w", err))
	}
	return m, nil
}

func closed(m members, coercion string) (codec.Value, []string, error) {
	content, err := codec.Marshal(m)
	if err != nil {
		return nil, nil, fault.Permanently(contract.ReasonMalformed, fmt.Errorf("write content: %w", err))
	}
	return content, []string{coercion}, nil
}

// wrap returns {"name":value}; name needs no escaping.
func wrap(name string, value codec.Value) codec.Value {
	return codec.Value(`{"` + name + `":` + string(value) + `}`)
}

func list(value codec.Value) codec.Value { return codec.Value("[" + string(value) + "]") }
