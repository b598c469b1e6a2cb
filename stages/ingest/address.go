package ingest

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
)

// premium is the user tier whose intent analyses go first.
const premium = "premium"

// schemaPattern is the form of a schema's name and version.
var schemaPattern = regexp.MustCompile(`^[a-z0-9_]{1,64}/[0-9]{1,9}$`)

// address decides task type, provider, schema and lane: by the subject, else by the
// metadata, else by the file name. Where they differ the subject wins and the difference
// is flagged.
func (h *Handler) address(in *doc.Document, r *reading) error {
	m := &r.meta
	tokens := strings.Split(strings.TrimPrefix(in.Origin.Subject, contract.RootRaw+"."), ".")
	nameTask, nameProvider, nameSession, _ := doc.ParseFileName(in.Header[contract.HeaderName])
	if r.refill != nil {
		nameSession = r.refill.Session()
	}
	if m.SessionID == "" {
		m.SessionID = nameSession
	}
	m.TaskType = r.choose("task_type", token(tokens, 0), m.TaskType, nameTask)
	m.Provider = r.choose("llm_provider", token(tokens, 1), m.Provider, nameProvider)
	if m.UserTier == "" {
		m.UserTier = "free"
	}
	in.Lane = lane(contract.Lane(token(tokens, 2)), m)
	if o := r.refill; o != nil {
		m.TaskType, m.Provider, in.Lane = o.Task, o.Provider, o.Lane
	}
	m.Priority = in.Lane

	var err error
	if !contract.Task(m.TaskType).Valid() {
		err = fault.New(contract.ReasonUnroutable, fmt.Sprintf("task type %.80q is not one of %v", m.TaskType, contract.Tasks()))
		m.TaskType = contract.Unknown
	}
	if !doc.ValidProvider(m.Provider) || m.Provider == contract.Unknown {
		if err == nil {
			err = fault.New(contract.ReasonMalformed, providerProblem(m.Provider))
		}
		m.Provider = contract.Unknown
	}
	switch {
	case m.Schema == "":
		m.Schema = m.TaskType + "/1"
	case !schemaPattern.MatchString(m.Schema):
		if err == nil {
			err = fault.New(contract.ReasonSchema, fmt.Sprintf("metadata.schema %.80q is not of the form name/version", m.Schema))
		}
		m.Schema = m.TaskType + "/1"
	}
	return err
}

func providerProblem(p string) string {
	if p == "" || p == contract.Unknown {
		return "no provider in the subject, in metadata.llm_provider or in the file name"
	}
	return fmt.Sprintf("provider %.80q is not of the form [a-z0-9_-]{1,32}", p)
}

// token returns a token of a subject; "unknown" says that there is none.
func token(tokens []string, i int) string {
	if i >= len(tokens) || tokens[i] == contract.Unknown {
		return ""
	}
	return tokens[i]
}

// choose takes the first of three sources that says something.
func (r *reading) choose(what, subject, metadata, name string) string {
	if subject != "" && metadata != "" && subject != metadata {
		r.flag("%s: the subject says %.64q, the metadata says %.64q", what, subject, metadata)
	}
	for _, s := range []string{subject, metadata, name} {
		if s != "" {
			return s
		}
	}
	return ""
}

// lane applies the rules of the requirements, unless the subject names a lane.
func lane(named contract.Lane, m *doc.Metadata) contract.Lane {
	if named.Valid() {
		return named
	}
	switch contract.Task(m.TaskType) {
	case contract.IntentAnalysis:
		if m.UserTier == premium {
			return contract.High
		}
		return contract.Low
	case contract.JobExtraction, contract.DataEnrichment:
		return contract.Normal
	case contract.QualityValidation:
		return contract.Low
	}
	return contract.Low
}
