package volume

import (
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// Document is what a volume holds of one completed document: its terminal record as the
// broker had it, and every object that the record names.
type Document struct {
	Seq         uint64    // in LLM_COMPLETED
	CompletedAt time.Time // the broker's time of the record
	Subject     string
	Header      bus.Header // those that Millrace itself writes
	Record      []byte     // the record's body
	Objects     []Object
	Missing     []store.Ref // objects that were no longer there
	// Exact says that the objects are byte for byte what they were, with type and metadata. It
	// is false only for lines of version 1.
	Exact bool
}

// Object is a body and where it is kept. The views of one class hold the same and are one
// Object.
type Object struct {
	Class       contract.Class // empty for what belongs to no class
	Refs        []store.Ref
	Body        []byte
	ContentType string
	Meta        map[string]string
}

// Held reports whether m is a record that was published again out of a volume, so that it is
// in the archive already.
func Held(m *bus.Stored) bool { return m.Header[contract.HeaderRestored] == contract.RestoredArchive }

// New returns the document of a terminal record. Its objects have names and no bodies: they
// are for the caller to read. A record that cannot be read is in the archive as it is.
func New(m *bus.Stored) *Document {
	d := &Document{
		Seq: m.Seq, CompletedAt: m.Time.UTC(), Subject: strings.ToValidUTF8(m.Subject, "\uFFFD"),
		Header: bus.Header{}, Record: m.Body, Exact: true,
	}
	for _, name := range contract.Headers() {
		if v, ok := m.Header[name]; ok {
			d.Header[name] = strings.ToValidUTF8(v, "\uFFFD")
		}
	}
	var r doc.Record
	if codec.Unmarshal(m.Body, &r) == nil {
		d.Objects = group(&r)
	}
	return d
}

// group gathers the objects that a record names: the views of a class are one.
func group(r *doc.Record) []Object {
	var out []Object
	at := map[string]int{} // of what is the same in all views
	seen := map[store.Ref]bool{}
	refs := r.Objects
	if r.Result != nil {
		refs = append(slices.Clip(refs), *r.Result)
	}
	for _, ref := range refs {
		if seen[ref] || store.CheckRef(ref) != nil {
			continue
		}
		seen[ref] = true
		class, same := classOf(ref)
		if i, ok := at[same]; ok {
			out[i].Refs = append(out[i].Refs, ref)
			continue
		}
		at[same] = len(out)
		out = append(out, Object{Class: class, Refs: []store.Ref{ref}})
	}
	return out
}

// classOf returns the class of an object, and what all views of the same object share. The key
// tells, for a bucket may have another name in the store.
func classOf(ref store.Ref) (class contract.Class, same string) {
	for _, c := range contract.Classes() {
		_, prefix := contract.ClassBucket(c)
		rest, ok := strings.CutPrefix(ref.Key, prefix)
		if !ok {
			continue
		}
		parts := strings.Split(rest, "/")
		if v := contract.View(parts[0]); len(parts) == 3 && (v == contract.ByDate || v == contract.ByProvider || v == contract.ByTask) {
			return c, string(c) + " " + ref.Bucket + " " + parts[2]
		}
	}
	return "", ref.String()
}

// Stored returns every object of the document as it was stored, one for each name.
func (d *Document) Stored() []store.Object {
	var out []store.Object
	for i := range d.Objects {
		o := &d.Objects[i]
		for _, r := range o.Refs {
			out = append(out, store.Object{Ref: r, Body: o.Body, ContentType: o.ContentType, Meta: o.Meta})
		}
	}
	return out
}

// Decode reads the terminal record.
func (d *Document) Decode() (doc.Record, error) {
	var r doc.Record
	err := codec.Unmarshal(d.Record, &r)
	return r, err
}

// entry describes the document for an index. What the record does not say is taken from the
// headers.
func (d *Document) entry() Entry {
	h := d.Header
	e := Entry{
		Seq: d.Seq, FileID: h[contract.HeaderFileID], Name: h[contract.HeaderName],
		Task: h[contract.HeaderTask], Provider: h[contract.HeaderProvider],
	}
	var r struct {
		Metadata struct {
			FileID    string    `json:"file_id"`
			CreatedAt time.Time `json:"created_at"`
			TaskType  string    `json:"task_type"`
			Provider  string    `json:"llm_provider"`
		} `json:"metadata"`
	}
	if codec.Unmarshal(d.Record, &r) == nil {
		m := &r.Metadata
		for _, set := range []struct {
			to   *string
			from string
		}{{&e.FileID, m.FileID}, {&e.Task, m.TaskType}, {&e.Provider, m.Provider}} {
			if set.from != "" {
				*set.to = set.from
			}
		}
		e.CreatedAt = m.CreatedAt
	}
	for i := range d.Objects {
		if o := &d.Objects[i]; e.Name == "" && o.Class == contract.ClassRaw {
			e.Name = o.Refs[0].Key[strings.LastIndexByte(o.Refs[0].Key, '/')+1:]
		}
	}
	return e
}
