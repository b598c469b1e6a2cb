package ingest

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
)

// reading is what a raw body says.
type reading struct {
	meta    doc.Metadata
	content codec.Value // JSON, or a JSON string that holds the model's text
	extra   codec.Value // members of an envelope that are not known, as an object
	badID   string      // a file_id that is no string, as it stands
	err     error       // why the body cannot be used; identity and address may be known all the same

	checksum string      // what the producer says of sent
	size     string      // likewise, a JSON number
	sent     codec.Value // the bytes of content as they stand in the message

	refill *doc.Original // what was decided when the document came first; nil where it comes now
}

// members are the members of a JSON object as they stand.
type members map[string]codec.Value

// read finds out what a body is: an envelope, a provider's response, other JSON, or text.
func (h *Handler) read(body []byte) reading {
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return reading{err: fault.New(contract.ReasonMalformed, "the body is empty")}
	case !utf8.Valid(body):
		return reading{err: fault.New(contract.ReasonMalformed, fmt.Sprintf("the body is not UTF-8: byte %d", invalidAt(body)))}
	case bytes.IndexByte(body, 0) >= 0:
		return reading{err: fault.New(contract.ReasonMalformed, fmt.Sprintf("the body is binary: byte %d is NUL", bytes.IndexByte(body, 0)))}
	}
	if err := codec.Check(body, h.config.MaxDepth); err != nil {
		if errors.Is(err, codec.ErrTooDeep) {
			return reading{err: fault.Permanently(contract.ReasonMalformed, err)}
		}
		return text(string(body)) // validate says what is wrong with it
	}
	if trimmed[0] != '{' {
		return reading{content: trimmed}
	}
	var top members
	if err := codec.Unmarshal(trimmed, &top); err != nil {
		return reading{err: fault.Permanently(contract.ReasonMalformed, err)}
	}
	if isEnvelope(top) {
		return h.readEnvelope(top)
	}
	r := reading{}
	r.unwrap(top, trimmed)
	return r
}

// text is the reading of a body that is not JSON but may hold some.
func text(s string) reading {
	v, err := codec.String(s)
	if err != nil {
		return reading{err: fault.Permanently(contract.ReasonMalformed, err)}
	}
	return reading{content: v}
}

func invalidAt(b []byte) int {
	at := 0
	for at < len(b) {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		at += n
	}
	return at
}

// isEnvelope tells an envelope from a provider's response or a bare document, which may
// have a member named metadata too.
func isEnvelope(top members) bool {
	meta := top["metadata"]
	if len(meta) == 0 || codec.KindOf(meta) != '{' {
		return false
	}
	if _, ok := top["content"]; ok {
		return true
	}
	var m members
	if codec.Unmarshal(meta, &m) != nil {
		return false
	}
	return slices.ContainsFunc([]string{"file_id", "task_type", "llm_provider"}, func(name string) bool {
		_, ok := m[name]
		return ok
	})
}

func (h *Handler) readEnvelope(top members) reading {
	var r reading
	if size := len(top["metadata"]); size > h.config.MaxMetadataBytes {
		r.err = fault.New(contract.ReasonMalformed, fmt.Sprintf("metadata has %d bytes, MAX_METADATA_BYTES is %d", size, h.config.MaxMetadataBytes))
		return r
	}
	var m members
	if err := codec.Unmarshal(top["metadata"], &m); err != nil {
		r.err = fault.Permanently(contract.ReasonMalformed, err)
		return r
	}
	r.readMetadata(m)
	content, ok := top["content"]
	if !ok || codec.KindOf(content) == 'n' {
		r.err = fault.New(contract.ReasonMalformed, "the envelope has no content")
		return r
	}
	r.sent, r.content = content, content
	delete(top, "metadata")
	delete(top, "content")
	r.extra = rest(top, stageMembers)
	if codec.KindOf(content) == '{' {
		var inner members
		if codec.Unmarshal(content, &inner) == nil && isResponse(inner) {
			r.unwrap(inner, content)
		}
	}
	return r
}

// stageMembers are the members of an envelope that stages write. A producer's are dropped.
var stageMembers = []string{"validation", "enrichment", "standard", "routing", "answer", "result"}

// rest writes what is left of an object without some members, nothing where nothing is left.
func rest(top members, without []string) codec.Value {
	for _, name := range without {
		delete(top, name)
	}
	if len(top) == 0 {
		return nil
	}
	v, err := codec.Marshal(top)
	if err != nil {
		return nil // cannot happen: every member was read from valid JSON
	}
	return v
}

// readMetadata takes over what a producer says of a document. A member of the wrong type is
// flagged and left out.
func (r *reading) readMetadata(m members) {
	take := func(name string, to *string) {
		v, ok := m[name]
		if !ok {
			return
		}
		delete(m, name)
		if codec.KindOf(v) == 'n' {
			return
		}
		if codec.Unmarshal(v, to) != nil {
			r.flag("metadata.%s is not a string", name)
		}
	}
	if v, ok := m["file_id"]; ok && codec.KindOf(v) != '"' && codec.KindOf(v) != 'n' {
		r.badID = fmt.Sprintf("%.80s", v)
		delete(m, "file_id")
	}
	var created, status, priority string
	for name, to := range map[string]*string{
		"file_id": &r.meta.FileID, "task_type": &r.meta.TaskType, "llm_provider": &r.meta.Provider,
		"model_name": &r.meta.ModelName, "session_id": &r.meta.SessionID, "user_id": &r.meta.UserID,
		"user_tier": &r.meta.UserTier, "user_query": &r.meta.UserQuery, "schema": &r.meta.Schema,
		"mode": &r.meta.Mode, "parent_file_id": &r.meta.ParentFileID,
		"checksum": &r.checksum, "created_at": &created, "processing_status": &status, "priority": &priority,
	} {
		take(name, to)
	}
	slices.Sort(r.meta.Flags)
	if created != "" {
		if at, err := time.Parse(time.RFC3339Nano, created); err == nil && at.Year() >= 1 && at.UTC().Year() <= 9999 {
			r.meta.CreatedAt = at.UTC()
		} else {
			r.flag("metadata.created_at is no RFC 3339 time, the broker's stands instead")
		}
	}
	if v, ok := m["file_size"]; ok && codec.KindOf(v) != 'n' {
		r.size = string(v)
	}
	for _, name := range []string{"file_size", "child_index", "producer_file_id", "flags", "stop_reason"} {
		delete(m, name)
	}
	r.meta.Extra = rest(m, nil)
}

func (r *reading) flag(format string, args ...any) {
	r.meta.Flags = append(r.meta.Flags, fmt.Sprintf(format, args...))
}

// verify holds the bytes against what the producer says of them.
func (h *Handler) verify(in *doc.Document, r *reading, sha string) error {
	if want := in.Header[contract.HeaderSHA256]; want != "" && in.Replay == 0 {
		if !sameSum(want, sha) {
			return fault.New(contract.ReasonIntegrity, fmt.Sprintf("header %s is %.80q, the body's sha256 is %s", contract.HeaderSHA256, want, sha))
		}
	}
	if r.sent == nil {
		return nil
	}
	if r.checksum != "" {
		if got := doc.Sum(r.sent); !sameSum(r.checksum, got) {
			return fault.New(contract.ReasonIntegrity, fmt.Sprintf("metadata.checksum is %.80q, the sha256 of content is %s", r.checksum, got))
		}
	}
	if r.size != "" && r.size != strconv.Itoa(len(r.sent)) {
		return fault.New(contract.ReasonIntegrity, fmt.Sprintf("metadata.file_size is %.40s, content has %d bytes", r.size, len(r.sent)))
	}
	return nil
}

// sameSum compares a sha256 as a producer writes it, "sha256:<hex>" or hex, with one in hex.
func sameSum(said, got string) bool {
	said = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(said), "sha256:"))
	return subtle.ConstantTimeCompare([]byte(said), []byte(got)) == 1
}
