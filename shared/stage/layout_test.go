package stage_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/stage"
)

func TestTheLayoutOfADocumentIsThatOfItsHeader(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 3)
	r := setup(t, options{config: func(c *stage.Config) { c.Views = []contract.View{contract.ByProvider} }},
		handle(func(_ context.Context, in *doc.Document) ([]stage.Output, error) {
			seen <- in.Metadata.FileID + " " + in.Layout.String()
			return next(in), nil
		}))
	d := envelope("f1")
	d.Layout = doc.NewLayout([]contract.View{contract.ByTask}, nil)
	r.send(d)
	require.Equal(t, "by_task_type;raw", r.until("LLM_ENRICH", 1)[0].Header[contract.HeaderLayout])
	require.Equal(t, "f1 by_task_type;raw", <-seen)

	r.send(envelope("f2")) // from the release before
	const whole = "by_provider;raw,validated,enriched,standardized"
	require.Equal(t, whole, r.until("LLM_ENRICH", 2)[1].Header[contract.HeaderLayout])
	require.Equal(t, "f2 "+whole, <-seen)

	bad := envelope("f3")
	body, err := bad.Encode()
	require.NoError(t, err)
	h := bad.Headers(contract.Ingest)
	h[contract.HeaderLayout] = "by_moon;raw"
	_, err = r.bus.Publish(t.Context(), bus.Message{
		Subject: contract.StageSubject(contract.Validate, contract.Normal, "job_extraction", "openai"), Header: h, Body: body,
	})
	require.NoError(t, err)
	dead := r.until(contract.StreamDLQ, 1)[0]
	require.Equal(t, "llm.dlq.validate.malformed", dead.Subject)
	require.Contains(t, dead.Header[contract.HeaderError], `read Llm-Layout: "by_moon;raw" is no layout`)
}
