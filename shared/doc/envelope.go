// Package doc is the document as it travels: the envelope that every stage reads and
// writes, the facts that stages add to it, its headers, its identity and its names. The
// same document always gives the same bytes, ids and keys: nothing here comes from a clock
// or from chance.
package doc

import (
	"fmt"
	"time"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
)

// Metadata is what is known about a document.
type Metadata struct {
	FileID           string          `json:"file_id"`
	CreatedAt        time.Time       `json:"created_at"`
	TaskType         string          `json:"task_type"`
	Provider         string          `json:"llm_provider"`
	ModelName        string          `json:"model_name,omitzero"`
	SessionID        string          `json:"session_id,omitzero"`
	UserID           string          `json:"user_id,omitzero"`
	UserTier         string          `json:"user_tier,omitzero"`
	UserQuery        string          `json:"user_query,omitzero"`
	ProcessingStatus contract.Status `json:"processing_status"`
	FileSize         int64           `json:"file_size"` // bytes of the whole raw body
	Checksum         string          `json:"checksum"`  // "sha256:" and hex, of the whole raw body
	Schema           string          `json:"schema"`    // name/version, such as job_extraction/1
	Priority         contract.Lane   `json:"priority,omitzero"`
	Mode             string          `json:"mode,omitzero"`
	ParentFileID     string          `json:"parent_file_id,omitzero"`
	ChildIndex       int             `json:"child_index,omitzero"`
	ProducerFileID   string          `json:"producer_file_id,omitzero"` // what the producer sent, where it could not be used
	StopReason       string          `json:"stop_reason,omitzero"`      // why the model stopped, as the provider says it
	Flags            []string        `json:"flags,omitzero"`            // what was odd but acceptable
	Extra            codec.Value     `json:",embed"`                    // members not known here, kept
}

// Envelope is the body of a message between stages, and of a stored document after ingest.
// Members that a stage does not know are kept.
type Envelope struct {
	Metadata   Metadata    `json:"metadata"`
	Content    codec.Value `json:"content,omitzero"`
	Validation *Validation `json:"validation,omitzero"` // added by validate
	Enrichment *Enrichment `json:"enrichment,omitzero"` // added by enrich
	Standard   *Standard   `json:"standard,omitzero"`   // added by standardize
	Routing    *Routing    `json:"routing,omitzero"`    // added by route
	Answer     *Answer     `json:"answer,omitzero"`     // added by scrape
	Outcome    *Outcome    `json:"result,omitzero"`     // added by aggregate
	Extra      codec.Value `json:",embed"`
}

// Decode reads an envelope.
func Decode(body []byte) (Envelope, error) {
	var e Envelope
	if err := codec.Unmarshal(body, &e); err != nil {
		return Envelope{}, fmt.Errorf("read envelope: %w", err)
	}
	return e, nil
}

// Encode writes an envelope; equal envelopes give equal bytes.
func (e *Envelope) Encode() ([]byte, error) {
	b, err := codec.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write envelope: %w", err)
	}
	return b, nil
}
