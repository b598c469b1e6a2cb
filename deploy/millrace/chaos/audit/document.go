package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// End is how a document is to end.
type End string

// The ends.
const (
	Completes End = "completed"
	Dies      End = "dead letter"        // whatever happens
	Either    End = "completed, or dead" // it may have killed its process too often
)

// Document is what is sent for one number of the load.
type Document struct {
	ID, Task, Provider string
	Body               []byte
	End                End
	Copies             []Copy
}

// Copy is what is sent once more of a document, after a pause.
type Copy struct {
	Body  []byte // other bytes under the same file_id are a conflict
	MsgID string // the message id; another than the first's reaches the line
	After time.Duration
}

// The shares of the load: every so many documents are of a kind.
const (
	everyUnfit    = 51
	everyConflict = 97
	everyLarge    = 101
	everyRepeated = 23 // the same message id: the broker's to find
	everyTwice    = 29 // another message id: the ledger's to find
	everyHostile  = 31 // with headers that are not a producer's to set

	largeBytes = 320 << 10 // over the claim check
)

// Make makes document number i of a run. The same run and number give the same document.
func Make(run string, i int) Document {
	d := Document{ID: fmt.Sprintf("%s-%06d", run, i), Task: "job_extraction", Provider: "openai", End: Completes}
	at := time.Date(2025, 1, 27+i/86400%28, 0, 0, i%86400, 0, time.UTC).Format(time.RFC3339)
	d.Body = content(i, at)
	switch i % 4 {
	case 0:
		d.Task, d.Provider = "intent_analysis", "anthropic"
	case 1:
		d.Provider = "google"
	}
	if i%everyLarge == everyLarge-1 {
		d.Task, d.Provider = "job_extraction", "deepseek"
		d.Body = fmt.Appendf(nil, `{"metadata":{"created_at":%q},"content":{"jobs":[{"title":"Large %d","company":"Big","location":"Perth","description":%q}]}}`,
			at, i, strings.Repeat("all work and no play ", largeBytes/21))
	}
	if i%everyUnfit == everyUnfit-1 {
		d.Body, d.End = fmt.Appendf(nil, `{"metadata":{"created_at":%q},"content":{"jobs":%d}}`, at, i), Dies
	}
	d.Copies = copies(i, d)
	return d
}

// sound reports whether the document completes, and all that is sent under its file_id.
func (d *Document) sound() bool {
	return d.End == Completes && !slices.ContainsFunc(d.Copies, func(c Copy) bool { return !bytes.Equal(c.Body, d.Body) })
}

// content is the body of an ordinary document: a search, a provider's answer, or jobs of
// which one stands twice.
func content(i int, at string) []byte {
	job := fmt.Sprintf(`{"title":"Engineer %d","company":"Company %d","location":"Sydney"}`, i, i)
	switch i % 4 {
	case 0:
		return fmt.Appendf(nil, `{"metadata":{"created_at":%q,"user_tier":"premium"},"content":{"intent":{"is_job_related":%t,"job_title":"engineer","location":"Sydney"}}}`,
			at, i%8 == 0)
	case 1:
		return fmt.Appendf(nil, `{"object":"chat.completion","choices":[{"message":{"content":%q}}]}`, `{"jobs":[`+job+`]}`)
	default:
		other := fmt.Sprintf(`{"title":"Designer %d","company":"Company %d","location":"Sydney"}`, i, i)
		return fmt.Appendf(nil, `{"metadata":{"created_at":%q},"content":{"jobs":[%s,%s,%s]}}`, at, job, other, job)
	}
}

func copies(i int, d Document) []Copy {
	var all []Copy
	if i%everyRepeated == everyRepeated-1 {
		all = append(all, Copy{Body: d.Body, MsgID: d.ID, After: time.Second})
	}
	if i%everyTwice == everyTwice-1 {
		all = append(all, Copy{Body: d.Body, MsgID: d.ID + "-again", After: time.Duration(i%7) * time.Second / 2})
	}
	if ordinary := d.End == Completes && i%everyLarge != everyLarge-1; ordinary && i%everyConflict == everyConflict-1 {
		all = append(all, Copy{Body: content(i+4, "2025-02-01T00:00:00Z"), MsgID: d.ID + "-other", After: 2 * time.Second})
	}
	return all
}

// Killer is a document whose text holds the mark that ends the process that works on it.
func Killer(id, mark string) Document {
	return Document{
		ID: id, Task: "job_extraction", Provider: "openai", End: Either,
		Body: fmt.Appendf(nil, `{"metadata":{"created_at":"2025-01-27T14:30:52Z"},"content":{"jobs":[{"title":"Engineer","company":"Company","location":"Sydney","description":%q}]}}`, mark),
	}
}
