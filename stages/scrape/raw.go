package scrape

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

// rawObject returns the object that keeps what a source sent, byte for byte: a body that is
// JSON stands in it as JSON, other text as "body" string, anything else as "body_base64".
func rawObject(in *doc.Document, pages []page) store.Object {
	var b bytes.Buffer
	b.WriteString(`{"source":`)
	b.Write(quote(in.Source))
	b.WriteString(`,"requests":[`)
	for i := range pages {
		p := &pages[i]
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"url":`)
		b.Write(quote(p.url))
		b.WriteString(`,"status":`)
		b.WriteString(strconv.Itoa(p.status))
		switch {
		case p.isJSON():
			b.WriteString(`,"body":`)
			b.Write(p.body)
		case utf8.Valid(p.body):
			b.WriteString(`,"body":`)
			b.Write(quote(string(p.body)))
		default:
			b.WriteString(`,"body_base64":"`)
			b.WriteString(base64.StdEncoding.EncodeToString(p.body))
			b.WriteByte('"')
		}
		b.WriteByte('}')
	}
	b.WriteString(`]}`)
	key := "raw/" + in.Source + "/" + doc.Date(in.Metadata.CreatedAt) + "/" + in.Name
	return store.Object{Ref: store.Ref{Bucket: contract.BucketJobs, Key: key}, Body: b.Bytes()}
}

// quote returns valid UTF-8 as a JSON string.
func quote(s string) []byte {
	v, err := codec.String(s)
	if err != nil {
		return []byte(`""`)
	}
	return v
}
