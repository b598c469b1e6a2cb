package volume

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// line is a document as it stands in a part, without the newline.
type line struct {
	Version      int               `json:"v,omitzero"`
	Seq          uint64            `json:"seq"`
	CompletedAt  time.Time         `json:"completed_at"`
	Subject      string            `json:"subject,omitzero"`
	Header       map[string]string `json:"header,omitzero"`
	Record       codec.Value       `json:"record,omitzero"` // or one of the next two
	RecordText   *string           `json:"record_text,omitzero"`
	RecordBase64 []byte            `json:"record_base64,omitzero"`
	Objects      []lineObject      `json:"objects,omitzero"`
	Missing      []string          `json:"missing,omitzero"`

	firstLine // what only version 1 has
}

// lineObject is an object in a line.
type lineObject struct {
	Class contract.Class    `json:"class,omitzero"`
	Refs  []string          `json:"refs"`
	Type  string            `json:"type"`
	Meta  map[string]string `json:"meta,omitzero"`
	payload
}

// Encode writes the document as the line of a part, without the newline. Equal documents give
// equal bytes.
func (d *Document) Encode() ([]byte, error) {
	record := wrap(d.Record)
	l := line{
		Version: FormatVersion, Seq: d.Seq, CompletedAt: d.CompletedAt.UTC(), Subject: d.Subject, Header: d.Header,
		Record: record.JSON, RecordText: record.Text, RecordBase64: record.Base64,
	}
	for i := range d.Objects {
		o := &d.Objects[i]
		out := lineObject{Class: o.Class, Type: o.ContentType, payload: wrap(o.Body)}
		for _, r := range o.Refs {
			out.Refs = append(out.Refs, r.String())
		}
		if len(o.Meta) > 0 {
			out.Meta = o.Meta
		}
		l.Objects = append(l.Objects, out)
	}
	for _, r := range d.Missing {
		l.Missing = append(l.Missing, r.String())
	}
	text, err := codec.Marshal(&l)
	if err != nil {
		return nil, fmt.Errorf("write the line of record %d: %w", d.Seq, err)
	}
	return text, nil
}

// DecodeLine reads a line of a part.
func DecodeLine(text []byte) (*Document, error) {
	var l line
	if err := codec.Unmarshal(text, &l); err != nil {
		return nil, err
	}
	d := &Document{
		Seq: l.Seq, CompletedAt: l.CompletedAt.UTC(), Subject: l.Subject, Header: map[string]string{}, Exact: l.Version > 0,
	}
	maps.Copy(d.Header, l.Header)
	for _, m := range l.Missing {
		r, err := refOf(m)
		if err != nil {
			return nil, fmt.Errorf("missing: %w", err)
		}
		d.Missing = append(d.Missing, r)
	}
	if l.Version == 0 {
		l.fill(d, l.Record)
		return d, nil
	}
	if l.Version != FormatVersion {
		return nil, fmt.Errorf("the line has version %d, known are up to %d", l.Version, FormatVersion)
	}
	var err error
	if d.Record, err = (payload{l.Record, l.RecordText, l.RecordBase64}).bytes(); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	for i, o := range l.Objects {
		read, err := o.read()
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", i, err)
		}
		d.Objects = append(d.Objects, read)
	}
	return d, nil
}

func (o *lineObject) read() (Object, error) {
	out := Object{Class: o.Class, ContentType: o.Type, Meta: o.Meta}
	var err error
	if out.Body, err = o.bytes(); err != nil {
		return out, err
	}
	if len(o.Refs) == 0 {
		return out, errNoName
	}
	for _, s := range o.Refs {
		r, err := refOf(s)
		if err != nil {
			return out, err
		}
		out.Refs = append(out.Refs, r)
	}
	return out, nil
}

// errNoName says that an object of a line has no name.
var errNoName = errors.New("it has no name")

// firstLine is what a line of version 1 holds beside the record: the body of the first view of
// each class, reformatted, without type and metadata.
type firstLine struct {
	Raw          *string     `json:"raw,omitzero"`        // what was sent, where it is UTF-8
	RawBase64    []byte      `json:"raw_base64,omitzero"` // else
	Validated    codec.Value `json:"validated,omitzero"`
	Enriched     codec.Value `json:"enriched,omitzero"`
	Standardized codec.Value `json:"standardized,omitzero"`
	Result       codec.Value `json:"result,omitzero"`
}

// fill makes the document of a line of version 1.
func (l *firstLine) fill(d *Document, record codec.Value) {
	d.Record = record
	var r doc.Record
	if codec.Unmarshal(record, &r) != nil {
		return // it was no record in the first place
	}
	bodies := map[contract.Class][]byte{
		contract.ClassRaw: l.RawBase64, contract.ClassValidated: l.Validated,
		contract.ClassEnriched: l.Enriched, contract.ClassStandardized: l.Standardized,
	}
	if l.Raw != nil {
		bodies[contract.ClassRaw] = []byte(*l.Raw)
	}
	for _, o := range group(&r) {
		o.Body, o.ContentType = bodies[o.Class], store.DefaultContentType
		if r.Result != nil && o.Refs[0] == *r.Result {
			o.Body = l.Result
		}
		if o.Body != nil {
			d.Objects = append(d.Objects, o)
		}
	}
}
