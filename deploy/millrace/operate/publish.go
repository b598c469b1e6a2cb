package operate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/inbox"
	"github.com/jobspy/millrace/shared/store"
)

// Address says what is known about documents from outside them. Empty fields are taken from
// the document's file name, else from its metadata.
type Address struct {
	Task     string
	Provider string
	Lane     contract.Lane
	Session  string
	FileID   string // of one document only
}

// Validate returns everything that is wrong with a.
func (a Address) Validate() error {
	var errs []error
	if a.Task != "" && !doc.ValidID(a.Task) {
		errs = append(errs, fmt.Errorf("task %q is not of the form [A-Za-z0-9_-]{1,64}", a.Task))
	}
	if a.Provider != "" && !doc.ValidProvider(a.Provider) {
		errs = append(errs, fmt.Errorf("provider %q is not of the form [a-z0-9_-]{1,32}", a.Provider))
	}
	if a.Lane != "" && !a.Lane.Valid() {
		errs = append(errs, fmt.Errorf("lane %q is not one of %v", a.Lane, contract.Lanes()))
	}
	if a.FileID != "" && !doc.ValidID(a.FileID) {
		errs = append(errs, fmt.Errorf("file_id %q is not of the form [A-Za-z0-9_-]{1,64}", a.FileID))
	}
	return errors.Join(errs...)
}

// Published is a document that the broker has.
type Published struct {
	File      string `json:"file"`
	Line      int    `json:"line,omitzero"`
	FileID    string `json:"file_id"`
	Subject   string `json:"subject"`
	Seq       uint64 `json:"seq"`
	Bytes     int    `json:"bytes"`
	Duplicate bool   `json:"duplicate"` // the broker had it already
	// Warning says what ingest will object to, though the document was published.
	Warning string `json:"warning,omitzero"`
}

// Publisher publishes documents. It may be used concurrently.
type Publisher struct {
	Bus bus.Bus
	// Store gives the object store; it is asked for only where a document is too large for a
	// message.
	Store func(ctx context.Context) (store.Store, error)
	// NewID makes the file_id of a document that brings none; nil means UUIDv7.
	NewID func() string
	// Now gives the time that stands in a file name made up for a session; nil means time.Now.
	Now func() time.Time
}

// Publish publishes one document under a and returns when the broker has it. Repeating it
// with the same file_id and bytes stores nothing twice.
func (p *Publisher) Publish(ctx context.Context, in Input, a Address) (Published, error) {
	m, out, err := p.message(in, a)
	if err != nil {
		return out, err
	}
	if len(in.Body) > inbox.MaxMessage {
		if err := p.checkIn(ctx, &m, out.FileID, in.Body); err != nil {
			return out, err
		}
	}
	r, err := bus.Insist(ctx, p.Bus, m)
	if err != nil {
		return out, err
	}
	out.Seq, out.Duplicate = r.Seq, r.Duplicate
	return out, nil
}

// message makes the message of a document.
func (p *Publisher) message(in Input, a Address) (bus.Message, Published, error) {
	out := Published{File: in.File, Line: in.Line, Bytes: len(in.Body)}
	h := readHead(in.Body)
	name := ""
	if in.File != Stdin {
		name = filepath.Base(in.File)
	}
	nameTask, nameProvider, _, _ := doc.ParseFileName(name)
	task := token(doc.ValidID, a.Task, nameTask, h.task)
	provider := token(doc.ValidProvider, a.Provider, nameProvider, h.provider)

	var err error
	if out.FileID, err = p.fileID(a.FileID, h); err != nil {
		return bus.Message{}, out, err
	}
	if h.badID != "" {
		out.Warning = fmt.Sprintf("metadata.file_id %.80s is not of the form [A-Za-z0-9_-]{1,64}: ingest will make it a dead letter", h.badID)
	}
	if a.Session != "" {
		if name, err = p.sessionName(a.Session, h, task, provider, out.FileID); err != nil {
			return bus.Message{}, out, err
		}
	}
	sha := doc.Sum(in.Body)
	m := bus.Message{
		Subject: contract.RawSubject(task, provider, a.Lane),
		// The bytes are part of the id: other bytes under the same file_id must reach ingest,
		// which calls them a conflict.
		ID:     fmt.Sprintf("%s:publish:0:r0:%s", out.FileID, sha[:16]),
		Header: bus.Header{contract.HeaderFileID: out.FileID, contract.HeaderSHA256: sha},
		Body:   in.Body,
	}
	if name = headerValue(name); name != "" {
		m.Header[contract.HeaderName] = name
	}
	out.Subject = m.Subject
	return m, out, nil
}

// token returns the first of some texts that is there, or the word for none where there is
// none or it cannot stand in a subject; ingest then finds what is wrong with it.
func token(valid func(string) bool, texts ...string) string {
	for _, s := range texts {
		if s == "" {
			continue
		}
		if valid(s) {
			return s
		}
		break
	}
	return contract.Unknown
}

func (p *Publisher) fileID(asked string, h head) (string, error) {
	switch {
	case asked != "" && h.fileID != "" && asked != h.fileID:
		return "", fmt.Errorf("metadata.file_id is %q, which is not the file_id %q that was asked for", h.fileID, asked)
	case asked != "":
		return asked, nil
	case h.fileID != "":
		return h.fileID, nil
	case p.NewID != nil:
		return p.NewID(), nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make a file_id: %w", err)
	}
	return id.String(), nil
}

// sessionName makes the file name that carries a session to ingest.
func (p *Publisher) sessionName(session string, h head, task, provider, fileID string) (string, error) {
	if h.session != "" {
		if h.session != session {
			return "", fmt.Errorf("metadata.session_id is %q, which is not the session %q that was asked for", h.session, session)
		}
		session = h.session
	}
	now := time.Now
	if p.Now != nil {
		now = p.Now
	}
	name := doc.FileName(now(), task, provider, session, fileID)
	if _, _, got, ok := doc.ParseFileName(name); !ok || got != session {
		return "", fmt.Errorf("session %q cannot be sent with task %q and provider %q: put it into metadata.session_id", session, task, provider)
	}
	return name, nil
}

// checkIn stores a body that is too large for a message where ingest looks for it, and lets
// m name it.
func (p *Publisher) checkIn(ctx context.Context, m *bus.Message, fileID string, body []byte) error {
	s, err := p.Store(ctx)
	if err != nil {
		return fmt.Errorf("%d bytes are too many for a message: %w", len(body), err)
	}
	ref, err := inbox.Keep(ctx, s, fileID, body)
	if err != nil {
		return fmt.Errorf("%d bytes are too many for a message: %w", len(body), err)
	}
	m.Header[contract.HeaderObject] = ref.String()
	if m.Body, err = codec.Marshal(map[string]string{"object": ref.String()}); err != nil {
		return fmt.Errorf("write the message: %w", err)
	}
	return nil
}

// headerValue makes a file name fit a header.
func headerValue(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_")))
}

// head is what the metadata of an envelope says, as far as it is needed to send it on.
type head struct {
	fileID, badID           string
	task, provider, session string
}

// readHead reads the metadata of a body; a body without any gives an empty head.
func readHead(body []byte) head {
	var top struct {
		Metadata map[string]codec.Value `json:"metadata"`
	}
	if codec.Unmarshal(body, &top) != nil {
		return head{}
	}
	text := func(name string) string {
		var s string
		if v := top.Metadata[name]; len(v) == 0 || codec.Unmarshal(v, &s) != nil {
			return ""
		}
		return s
	}
	h := head{fileID: text("file_id"), task: text("task_type"), provider: text("llm_provider"), session: text("session_id")}
	v := top.Metadata["file_id"]
	missing := len(v) == 0 || codec.KindOf(v) == 'n' || string(v) == `""`
	if !missing && !doc.ValidID(h.fileID) {
		h.fileID, h.badID = "", string(v)
	}
	return h
}
