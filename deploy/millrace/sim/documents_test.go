package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
)

// What is to become of a document.
const (
	mustComplete = "completes"
	mustFail     = "is a dead letter"
	mayEither    = "completes or is a dead letter"
)

// document is a message that a producer publishes.
type document struct {
	index   int
	what    string
	fileID  string // what the producer calls it, or empty
	makes   bool   // the line makes an id of its own
	id      string // message id
	subject string
	body    string
	at      time.Duration
	want    string
}

func (d *document) String() string {
	return fmt.Sprintf("%s at %s: %s %q on %s, %d bytes, %s", docName(d.index), d.at, d.what, d.fileID, d.subject, len(d.body), d.want)
}

func (d *document) message() bus.Message {
	m := bus.Message{Subject: d.subject, ID: d.id, Body: []byte(d.body), Header: bus.Header{}}
	if d.fileID != "" && doc.ValidID(d.fileID) {
		m.Header[contract.HeaderFileID] = d.fileID
	}
	return m
}

// docName is what a document is called in schedules and traces.
func docName(index int) string {
	if index == anyDoc {
		return "no document"
	}
	return fileID(index)
}

// fileID names document number index. No id is the beginning of another one.
func fileID(index int) string { return "sim-" + string(rune('a'+index)) }

const maxDocuments = 12 // named by letters

// newDocuments makes the documents of a seed. The first one is always a sound list of jobs,
// so that there is something to be about.
func newDocuments(r *rand.Rand) []document {
	docs := []document{jobs(r, 0)}
	for n := 2 + r.IntN(5); n > 0 && len(docs) < maxDocuments-1; n-- {
		i := len(docs)
		switch r.IntN(14) {
		case 0, 1, 2, 3:
			docs = append(docs, search(r, i))
		case 4, 5:
			docs = append(docs, jobs(r, i))
		case 6:
			docs = append(docs, chat(r, i))
		case 7:
			docs = append(docs, enrichment(r, i, r.IntN(len(docs))))
		case 8:
			docs = append(docs, verdict(r, i, r.IntN(len(docs))))
		case 9, 10:
			docs = append(docs, again(r, i, docs[r.IntN(len(docs))]))
		case 11:
			docs = append(docs, anonymous(r, i))
		default:
			docs = append(docs, broken(r, i))
		}
	}
	return docs
}

func newDocument(r *rand.Rand, i int, what string, task contract.Task, body string) document {
	subject := contract.RawSubject(string(task), pick(r, "openai", "anthropic", "google"), pick(r, "", contract.High, contract.Low))
	return document{
		index: i, what: what, fileID: fileID(i), id: fmt.Sprintf("produced-%d", i), subject: subject, body: body,
		at: time.Duration(r.Int64N(int64(publishWithin))).Round(time.Millisecond), want: mustComplete,
	}
}

func search(r *rand.Rand, i int) document {
	return newDocument(r, i, "a search", contract.IntentAnalysis, fmt.Sprintf(
		`{"metadata":{"user_tier":%q},"content":{"intent":{"is_job_related":true,"confidence":0.9,"job_title":"python developer","location":"Sydney","skills":["python"]}}}`,
		pick(r, "premium", "free")))
}

func chat(r *rand.Rand, i int) document {
	return newDocument(r, i, "no search", contract.IntentAnalysis, `{"metadata":{},"content":{"intent":{"is_job_related":false,"confidence":0.99}}}`)
}

func jobs(r *rand.Rand, i int) document {
	list := make([]string, 0, 4)
	for n := range 1 + r.IntN(3) {
		list = append(list, fmt.Sprintf(`{"title":"Engineer %d","company":"Acme Pty Ltd","location":"Melbourne VIC","salary":"$150k - $170k","url":"https://jobs.example.com/%d"}`, n, n))
	}
	list = append(list, list[0]) // the same once more
	if r.IntN(3) == 0 {
		list = append(list, fmt.Sprintf(`{"title":"Writer","description":%q}`, strings.Repeat("Writes and reads. ", 200)))
	}
	return newDocument(r, i, "jobs", contract.JobExtraction, `{"metadata":{},"content":{"jobs":[`+strings.Join(list, ",")+`]}}`)
}

func enrichment(r *rand.Rand, i, target int) document {
	d := newDocument(r, i, "an enrichment of "+docName(target), contract.DataEnrichment,
		fmt.Sprintf(`{"metadata":{},"content":{"target":{"file_id":%q},"facts":{"industry":"software","said_by":%q}}}`, fileID(target), fileID(i)))
	d.want = mayEither // its target may be late, or never complete
	return d
}

func verdict(r *rand.Rand, i, target int) document {
	d := newDocument(r, i, "a verdict on "+docName(target), contract.QualityValidation,
		fmt.Sprintf(`{"metadata":{},"content":{"target":{"file_id":%q},"verdict":"accept","score":0.8,"issues":[]}}`, fileID(target)))
	d.want = mayEither
	return d
}

// again is another message under an id that a document has: the same bytes, or others.
func again(r *rand.Rand, i int, of document) document {
	d := of
	d.index, d.id = i, fmt.Sprintf("produced-%d", i)
	d.at = time.Duration(r.Int64N(int64(publishWithin))).Round(time.Millisecond)
	d.what = "the same again: " + of.what
	if r.IntN(3) == 0 {
		d.what = "other bytes under one id: " + of.what
		d.body += strings.Repeat(" ", i+1)
	}
	return d
}

// anonymous is a document whose id is the line's to make.
func anonymous(r *rand.Rand, i int) document {
	d := jobs(r, i)
	d.what, d.fileID, d.makes = "jobs without an id", "", true
	return d
}

// twoIDs is what is wrong with a document whose header and body name two ids: it gets a third.
const twoIDs = "two ids"

func broken(r *rand.Rand, i int) document {
	bodies := map[string]string{
		"no JSON":            "I am sorry, I cannot help with that.",
		"another schema":     `{"metadata":{},"content":{"jobs":"none"}}`,
		"a wrong checksum":   `{"metadata":{"checksum":"sha256:` + strings.Repeat("0", 64) + `"},"content":{"jobs":[{"title":"x"}]}}`,
		"nothing":            "",
		twoIDs:               `{"metadata":{"file_id":"other"},"content":{"jobs":[{"title":"x"}]}}`,
		"an id that is none": `{"metadata":{"file_id":"not an id"},"content":{"jobs":[{"title":"x"}]}}`,
	}
	what := pick(r, "no JSON", "another schema", "a wrong checksum", "nothing", twoIDs, "an id that is none")
	d := newDocument(r, i, what, contract.JobExtraction, bodies[what])
	if what == "an id that is none" {
		d.fileID = "not an id"
	}
	d.makes = what == twoIDs || what == "an id that is none"
	d.want = mustFail
	return d
}

// poisoned is a document that ends its process whenever it is validated.
func poisoned(d document) document {
	d.what = "poison: " + d.what
	d.want = mustFail
	return d
}
