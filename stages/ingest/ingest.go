// Package ingest is the first stage: it gives a raw message its identity and its name,
// proves its integrity, recognises duplicates, unwraps provider responses, chooses the
// lane and stores the raw bytes untouched before anything else happens to them.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// Ledger is what ingest needs of the ledger.
type Ledger interface {
	Open(ctx context.Context, fileID string, e ledger.Entry) (ledger.Opening, ledger.Entry, error)
	Rename(ctx context.Context, fileID, name string) error
}

// Objects is what ingest needs of the object store.
type Objects interface {
	Put(ctx context.Context, objects ...store.Object) []error
	Get(ctx context.Context, r store.Ref) (*store.Object, error)
	Stat(ctx context.Context, r store.Ref) (store.Info, error)
	List(ctx context.Context, bucket, prefix string) iter.Seq2[store.Info, error]
	Delete(ctx context.Context, r store.Ref) error
}

// Letters is what ingest needs of the dead letters.
type Letters interface {
	Get(ctx context.Context, stream string, seq uint64) (*bus.Stored, error)
}

// Handler is the stage. It may be called concurrently.
type Handler struct {
	config  Config
	ledger  Ledger
	objects Objects
	letters Letters
	policy  func() policy.Storage
	refuse  func(*doc.Document) error // that was replayed too often
	names   names
}

// New makes the stage.
func New(_ context.Context, c Config, d stage.Deps) (stage.Handler, error) {
	return &Handler{
		config: c, ledger: d.Ledger, objects: d.Store, letters: d.Bus, policy: d.Storage, refuse: d.TooOften,
		names: names{objects: d.Store, clock: d.Clock},
	}, nil
}

// GivesWay implements stage.Yielding.
func (h *Handler) GivesWay() time.Duration { return h.config.GiveWay }

// Handle takes one raw message. It returns one document for validate, or for a duplicate at
// most the answer. Whatever is wrong with a message, its bytes are stored first.
func (h *Handler) Handle(ctx context.Context, in *doc.Document) ([]stage.Output, error) {
	body, err := h.body(ctx, in)
	if err != nil {
		return nil, err
	}
	sha := doc.Sum(body)
	found := h.read(body)
	if err := h.genuine(ctx, in, &found); err != nil {
		return nil, err
	}
	if err := h.refilled(ctx, in, &found, sha); err != nil {
		return nil, err
	}
	wrong := h.identify(in, &found, sha)
	wrong = errors.Join(wrong, h.address(in, &found))
	// The first thing that is wrong names the reason; later ones would only follow from it.
	for _, check := range []error{found.err, h.verify(in, &found, sha), found.refused(in), h.refuse(in)} {
		if wrong == nil {
			wrong = check
		}
	}
	in.Metadata = found.meta
	in.Metadata.Checksum, in.Metadata.FileSize = "sha256:"+sha, int64(len(body))

	opening, entry, err := h.open(ctx, in, &found, sha)
	if err != nil {
		return nil, err
	}
	switch opening {
	case ledger.Duplicate:
		return h.answer(ctx, in, entry)
	case ledger.Conflict:
		h.rename(in, sha)
		wrong = fault.New(contract.ReasonConflict, fmt.Sprintf(
			"file_id %s came before as message %d of %s with sha256 %s, this one has %s",
			in.Metadata.ProducerFileID, entry.Owner.Seq, entry.Owner.Stream, entry.SHA256, sha))
	case ledger.New, ledger.Again, ledger.Replayed:
		if in.Replay > 0 && entry.SHA256 != "" {
			in.Metadata.Checksum = "sha256:" + entry.SHA256
		}
	}
	if err := h.keep(ctx, in, rawBody{body: body, sha: sha, reason: fault.Of(wrong).Reason, refill: found.refill != nil}); err != nil {
		return nil, err
	}
	if wrong != nil {
		return nil, wrong
	}
	out := in.Next()
	out.Content = found.content
	out.Extra = found.extra
	out.Metadata.ProcessingStatus = contract.StatusPending
	return []stage.Output{{To: contract.Validate, Doc: out}}, nil
}

// body returns the bytes that were sent: those of the message, or of the object that a
// producer put into the inbox because they fit no message.
func (h *Handler) body(ctx context.Context, in *doc.Document) ([]byte, error) {
	if in.Object == "" {
		if int64(len(in.Body)) > h.config.MaxDocumentBytes {
			return nil, h.oversize(in, int64(len(in.Body)))
		}
		return in.Body, nil
	}
	bucket, key, _ := strings.Cut(in.Object, "/")
	if bucket != contract.BucketRaw || !strings.HasPrefix(key, contract.InboxPrefix) {
		return nil, fault.New(contract.ReasonMalformed, fmt.Sprintf("header %s is %q, it may only name an object under %s/%s",
			contract.HeaderObject, in.Object, contract.BucketRaw, contract.InboxPrefix))
	}
	ref := store.Ref{Bucket: bucket, Key: key}
	info, err := h.objects.Stat(ctx, ref)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.Permanently(contract.ReasonMissingObject, err)
	}
	if err != nil {
		return nil, err
	}
	if info.Size > h.config.MaxDocumentBytes {
		return nil, h.oversize(in, info.Size)
	}
	o, err := h.objects.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return o.Body, nil
}

// genuine takes a message for a replay only where it names a dead letter of its own file_id
// that was replayed less often: anybody may write headers.
func (h *Handler) genuine(ctx context.Context, in *doc.Document, r *reading) error {
	if in.Replay == 0 && in.ReplayOf == "" {
		return nil
	}
	if seq, err := strconv.ParseUint(in.ReplayOf, 10, 64); err == nil && in.Replay > 0 {
		m, err := h.letters.Get(ctx, contract.StreamDLQ, seq)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		if err == nil && m.Header[contract.HeaderFileID] == in.Header[contract.HeaderFileID] && doc.FromMessage(m).Replay < in.Replay {
			return nil
		}
	}
	r.flag("the message says it is replay %d of dead letter %.20q, which is none of its own", in.Replay, in.ReplayOf)
	in.Replay, in.ReplayOf, in.Layout = 0, "", doc.Layout{}
	return nil
}

// oversize refuses a document by its size. Its bytes stay where they are.
func (h *Handler) oversize(in *doc.Document, size int64) error {
	if !doc.ValidID(in.Metadata.FileID) {
		in.Metadata.FileID = ""
	}
	found := reading{}
	_ = h.address(in, &found) // the size is what is wrong; an odd address shows as unknown
	in.Metadata.TaskType, in.Metadata.Provider = found.meta.TaskType, found.meta.Provider
	return fault.New(contract.ReasonOversize, fmt.Sprintf("the document has %d bytes, MAX_DOCUMENT_BYTES is %d", size, h.config.MaxDocumentBytes))
}

// identify decides the file_id and the creation time.
func (h *Handler) identify(in *doc.Document, r *reading, sha string) error {
	m := &r.meta
	header, inBody := in.Header[contract.HeaderFileID], m.FileID
	if m.CreatedAt.IsZero() {
		m.CreatedAt = in.Origin.Time.UTC()
	}
	if r.refill != nil {
		m.CreatedAt, m.ProducerFileID = r.refill.CreatedAt, r.refill.ProducerFileID
	}
	m.FileID = inBody
	if header != "" {
		m.FileID = header
	}
	generated := func(original, format string, args ...any) error {
		m.FileID, m.ProducerFileID = doc.NewID(in.Origin, sha), original
		if r.refill != nil {
			m.FileID = r.refill.FileID
		}
		return fault.New(contract.ReasonMalformed, fmt.Sprintf(format, args...))
	}
	switch {
	case m.FileID == "" && r.badID == "":
		m.FileID = doc.NewID(in.Origin, sha)
		return nil
	case m.FileID == "":
		return generated(r.badID, "metadata.file_id is %s, must be a string", r.badID)
	case !doc.ValidID(m.FileID):
		return generated(m.FileID, "file_id %.80q is not of the form [A-Za-z0-9_-]{1,64}", m.FileID)
	case header != "" && inBody != "" && header != inBody && in.Replay == 0 && !r.stood(inBody):
		return generated(inBody, "header %s is %q but metadata.file_id is %.80q", contract.HeaderFileID, header, inBody)
	}
	if inBody != "" && inBody != m.FileID {
		m.ProducerFileID = inBody
	}
	return nil
}

// maxAnswer is the largest result that is sent to a waiting caller, in bytes; a larger one is
// read from the bucket.
const maxAnswer = 256 << 10

// answer tells whoever sent a document again what came of it. One that has not completed yet
// is answered when it does, like the first.
func (h *Handler) answer(ctx context.Context, in *doc.Document, e ledger.Entry) ([]stage.Output, error) {
	if e.State != ledger.Done || e.Holder.Kind != ledger.Completed {
		return nil, nil
	}
	fileID := in.Metadata.FileID
	result, err := h.objects.Get(ctx, doc.ResultRef(e.CreatedAt, fileID))
	if errors.Is(err, store.ErrNotFound) || (err == nil && len(result.Body) > maxAnswer) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []stage.Output{{
		Subject: contract.ResultSubject(fileID), Body: result.Body,
		ID: fmt.Sprintf("%s:%s:duplicate:%d", fileID, contract.Ingest, in.Origin.Seq),
	}}, nil
}

// open enters the document into the ledger and decides its base name and its layout. Both
// are the same when its message comes again, whatever the policy says by then; a replay
// keeps the layout that its dead letter has.
func (h *Handler) open(ctx context.Context, in *doc.Document, r *reading, sha string) (ledger.Opening, ledger.Entry, error) {
	m := &in.Metadata
	in.Name = doc.FileName(m.CreatedAt, m.TaskType, m.Provider, m.SessionID, m.FileID)
	if r.refill != nil {
		in.Name = r.refill.Name
	}
	layout := in.Layout
	if layout.IsZero() {
		layout = h.policy().Layout()
	}
	opening, entry, err := h.ledger.Open(ctx, m.FileID, ledger.Entry{
		SHA256: sha, Name: in.Name, Task: m.TaskType, Provider: m.Provider, CreatedAt: m.CreatedAt, Replay: in.Replay,
		Owner:  ledger.Owner{Stream: in.Origin.Stream, Seq: in.Origin.Seq, Time: in.Origin.Time.UTC()},
		Layout: layout.String(),
	})
	if err != nil {
		return opening, entry, err
	}
	switch {
	case opening == ledger.New || opening == ledger.Conflict:
		in.Layout = layout
	case entry.Layout != "":
		if in.Layout, err = doc.ParseLayout(entry.Layout); err != nil {
			err = fmt.Errorf("read the ledger entry of %s: %w", m.FileID, err)
		}
	default:
		// It was entered by the release before: what is stored in too many views is only not
		// named by its record.
	}
	return opening, entry, err
}

// rename gives a document whose file_id belongs to another one an id of its own.
func (h *Handler) rename(in *doc.Document, sha string) {
	m := &in.Metadata
	m.ProducerFileID, m.FileID = m.FileID, doc.NewID(in.Origin, sha)
	in.Name = doc.FileName(m.CreatedAt, m.TaskType, m.Provider, m.SessionID, m.FileID)
}

// rawBody is what is stored of a message, whatever is wrong with it.
type rawBody struct {
	body   []byte
	sha    string
	reason contract.Reason // why the document is refused; empty where it is not
	refill bool            // it is stored already, in at least one view
}

// keep stores the raw bytes: one object at once, create-only, which reserves the name, and
// the others before the message is settled. A name that another document holds is not ours.
func (h *Handler) keep(ctx context.Context, in *doc.Document, raw rawBody) error {
	base := in.Name
	for _, name := range []string{base, doc.SecondName(base, in.Metadata.FileID)} {
		in.Name = name
		objects := in.Views(contract.ClassRaw, raw.body)
		meta := rawMeta(in, raw)
		for i := range objects {
			objects[i].Meta = meta
			objects[i].CreateOnly = in.Replay > 0 || raw.refill // both keep the first raw objects
		}
		rest, ours, err := h.names.reserve(ctx, in, objects)
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		in.Objects = append(in.Objects, rest...)
		if name != base {
			return h.ledger.Rename(ctx, in.Metadata.FileID, name)
		}
		return nil
	}
	return fmt.Errorf("the file names %s and %s are both taken by other documents", base, in.Name)
}

// rawMeta is the object metadata from which a raw object can be sent through the line again.
func rawMeta(in *doc.Document, raw rawBody) map[string]string {
	m := &in.Metadata
	return doc.Original{
		FileID: m.FileID, Name: in.Name, Task: m.TaskType, Provider: m.Provider, Lane: in.Lane,
		CreatedAt: m.CreatedAt, SHA256: raw.sha, Reason: raw.reason, ProducerFileID: m.ProducerFileID,
	}.Meta()
}
