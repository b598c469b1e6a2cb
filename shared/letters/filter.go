package letters

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/contract"
)

// Filter selects dead letters; empty fields select all.
type Filter struct {
	Stage  contract.Stage
	Reason contract.Reason
	FileID string
	// Group is the id of a Group.
	Group string
	Since time.Time // that failed at or after this time
	Seqs  []uint64
	// All selects those too that have been replayed.
	All bool
	// Newest bounds the selection to the newest ones; 0 means no bound.
	Newest int
}

// Validate returns everything that is wrong with f.
func (f Filter) Validate() error {
	var errs []error
	if f.Stage != "" && !slices.Contains(contract.Stages(), f.Stage) {
		errs = append(errs, fmt.Errorf("stage %q is not one of %v", f.Stage, contract.Stages()))
	}
	if f.Reason != "" && !slices.Contains(contract.Reasons(), f.Reason) {
		errs = append(errs, fmt.Errorf("reason %q is not one of %v", f.Reason, contract.Reasons()))
	}
	if f.Group != "" && !groupForm.MatchString(f.Group) {
		errs = append(errs, fmt.Errorf("group %q is not of the form 1a2b3c4d, as dlq ls --group shows it", f.Group))
	}
	if f.Newest < 0 {
		errs = append(errs, fmt.Errorf("limit %d is below 0", f.Newest))
	}
	return errors.Join(errs...)
}

// subject returns the subjects of dead letters that f can select.
func (f Filter) subject() string {
	stage, reason := string(f.Stage), string(f.Reason)
	if stage == "" {
		stage = "*"
	}
	if reason == "" {
		reason = "*"
	}
	return strings.Join([]string{contract.RootDLQ, stage, reason}, ".")
}

func (f Filter) matches(l *Letter) bool {
	return (f.FileID == "" || l.FileID == f.FileID) &&
		(f.Since.IsZero() || !l.FailedAt.Before(f.Since)) &&
		(len(f.Seqs) == 0 || slices.Contains(f.Seqs, l.Seq)) &&
		(f.Group == "" || l.Group == f.Group) &&
		(f.Stage == "" || l.Stage == f.Stage) && (f.Reason == "" || l.Reason == f.Reason)
}
