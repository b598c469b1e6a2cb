package stage

import (
	"regexp"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
)

var traceparent = regexp.MustCompile(`^00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})$`)

// childTrace returns the traceparent (W3C Trace Context) of what stage s makes of d: the
// trace goes on, the parent is this stage's span. A document without a trace begins one.
// The ids follow from the document, so that doing the work again gives the same.
func childTrace(d *doc.Document, s contract.Stage) string {
	trace, flags := doc.Sum([]byte("trace\n" + d.Metadata.FileID))[:32], "01"
	if m := traceparent.FindStringSubmatch(d.Trace); m != nil {
		trace, flags = m[1], m[2]
	}
	span := doc.Sum([]byte("span\n" + trace + "\n" + d.WorkID() + "\n" + string(s)))[:16]
	return "00-" + trace + "-" + span + "-" + flags
}
