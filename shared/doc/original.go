package doc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// Original is what was decided of a document when it came first. Each raw object carries it
// as metadata, so that the document can be sent through the line again with nothing decided
// anew.
type Original struct {
	FileID    string
	Name      string // file name
	Task      string
	Provider  string
	Lane      contract.Lane
	CreatedAt time.Time
	SHA256    string // of the whole raw body, hex

	Reason         contract.Reason // why ingest refused it; empty where it did not
	ProducerFileID string          // as in Metadata, where it is a valid id
}

// Meta returns o as the metadata of its raw object.
func (o Original) Meta() map[string]string {
	m := map[string]string{
		contract.MetaFileID: o.FileID, contract.MetaName: o.Name,
		contract.MetaTask: o.Task, contract.MetaProvider: o.Provider, contract.MetaLane: string(o.Lane),
		contract.MetaCreatedAt: o.CreatedAt.UTC().Format(time.RFC3339Nano), contract.MetaSHA256: o.SHA256,
	}
	if o.Reason != "" {
		m[contract.MetaReason] = string(o.Reason)
	}
	if ValidID(o.ProducerFileID) {
		m[contract.MetaProducerFileID] = o.ProducerFileID
	}
	return m
}

// ReadOriginal reads the metadata of the raw object at r. It is an error where something is
// missing or not of its form, and where the object lies elsewhere than its metadata says:
// then it is no raw object, or somebody moved it.
func ReadOriginal(r store.Ref, meta map[string]string) (Original, error) {
	o := Original{
		FileID: meta[contract.MetaFileID], Name: meta[contract.MetaName], Task: meta[contract.MetaTask],
		Provider: meta[contract.MetaProvider], Lane: contract.Lane(meta[contract.MetaLane]), SHA256: meta[contract.MetaSHA256],
		Reason: contract.Reason(meta[contract.MetaReason]), ProducerFileID: meta[contract.MetaProducerFileID],
	}
	var errs []error
	check := func(ok bool, name string) {
		if !ok {
			errs = append(errs, fmt.Errorf("metadata %s of %s is %.80q", name, r, meta[name]))
		}
	}
	created, err := time.Parse(time.RFC3339Nano, meta[contract.MetaCreatedAt])
	o.CreatedAt = created.UTC()
	check(err == nil && o.CreatedAt.Year() >= 1 && o.CreatedAt.Year() <= 9999, contract.MetaCreatedAt)
	check(ValidID(o.FileID), contract.MetaFileID)
	check(o.Task == contract.Unknown || contract.Task(o.Task).Valid(), contract.MetaTask)
	check(ValidProvider(o.Provider), contract.MetaProvider)
	check(o.Lane.Valid(), contract.MetaLane)
	check(sumPattern.MatchString(o.SHA256), contract.MetaSHA256)
	check(o.Reason == "" || slices.Contains(contract.Reasons(), o.Reason), contract.MetaReason)
	check(o.ProducerFileID == "" || ValidID(o.ProducerFileID), contract.MetaProducerFileID)
	if len(errs) == 0 && !slices.Contains(Views(contract.ClassRaw, contract.Views(), o.CreatedAt, o.Provider, o.Task, o.Name), r) {
		errs = append(errs, fmt.Errorf("by its metadata %s does not belong there", r))
	}
	return o, errors.Join(errs...)
}

// Session returns the session in the file name of o, empty where the name holds the file_id
// instead. One that was cut or cleaned for the name stays so.
func (o Original) Session() string {
	const mark = "x"
	prefix := strings.TrimSuffix(FileName(o.CreatedAt, o.Task, o.Provider, mark, o.FileID), mark+".json")
	session, ok := strings.CutPrefix(strings.TrimSuffix(o.Name, ".json"), prefix)
	session = strings.TrimSuffix(session, "_"+Sum([]byte(o.FileID))[:8]) // that of SecondName
	if !ok || session == o.FileID {
		return ""
	}
	return session
}
