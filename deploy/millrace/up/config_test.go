package up_test

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/up"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/ledger"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
)

// change sets the storage policy of the line as millrace config set does.
func change(t *testing.T, value string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // also when the test is over
	next, err := policy.ParseStorage([]byte(value), policy.Seed(nil))
	require.NoError(t, err)
	kept, err := policy.Read(ctx, line.Bus, policy.Seed(nil))
	require.NoError(t, err)
	require.NoError(t, policy.Write(ctx, line.Bus, next, kept.Revision))
}

// records returns the objects in views that each record names, by file_id.
func records(t *testing.T) map[string][]string {
	t.Helper()
	named := map[string][]string{}
	for m, err := range line.Bus.Scan(t.Context(), contract.StreamCompleted, "", 0) {
		require.NoError(t, err)
		var r doc.Record
		require.NoError(t, codec.Unmarshal(m.Body, &r))
		for _, o := range r.Objects {
			if o.Bucket != contract.BucketJobs {
				named[r.Metadata.FileID] = append(named[r.Metadata.FileID], o.String())
			}
		}
	}
	return named
}

// lying returns the objects in views, by the session in their names.
func lying(t *testing.T, s store.Store) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, bucket := range []string{contract.BucketRaw, contract.BucketProcessed} {
		for info, err := range s.List(t.Context(), bucket, "") {
			require.NoError(t, err)
			_, _, session, ok := doc.ParseFileName(path.Base(info.Key))
			if ok && !strings.HasPrefix(info.Key, contract.NamePrefix) {
				found[session] = append(found[session], info.String())
			}
		}
	}
	return found
}

// policyRuns counts how often the tests below ran, since the line stays the same.
var policyRuns atomic.Int64

// The policy is one for the whole line, so the other tests wait until this one is over.
func TestThePolicyChangesWhileDocumentsFlow(t *testing.T) { //nolint:paralleltest // see above
	const rounds, each = 6, 20
	t.Cleanup(func() { change(t, "{}") })
	policies := []string{
		`{"views":["by_date"],"classes":["raw","standardized"]}`,
		`{"views":["by_provider","by_task_type"]}`,
		`{"views":["by_task_type"],"classes":["raw"]}`,
	}
	run := fmt.Sprintf("flow%d", policyRuns.Add(1))
	var ids []string
	for round := range rounds {
		for n := range each {
			id := fmt.Sprintf("%s-%d-%d", run, round, n)
			body := `{"metadata":{"created_at":"2025-03-04T05:06:07Z","session_id":"` + id + `"},"content":{"jobs":[{"title":"Baker"}]}}`
			ids = append(ids, publish(t, "job_extraction.openai", id, body, nil))
			if n == each/2 {
				change(t, policies[round%len(policies)])
			}
		}
	}
	for _, id := range ids {
		require.Equal(t, ledger.Completed, entry(t, id).Holder.Kind, id)
	}
	layouts := map[int]bool{}
	named, found := records(t), lying(t, client(t))
	for _, id := range ids {
		require.ElementsMatch(t, found[id], named[id], "%s: a record names what is there, and nothing else is", id)
		layouts[len(named[id])] = true
	}
	require.Greater(t, len(layouts), 1, "documents of several layouts were on their way")
}

func TestABadChangeOfARunningLineIsRefused(t *testing.T) { //nolint:paralleltest // as above
	kv, err := line.Bus.KV(t.Context(), contract.KVConfig)
	require.NoError(t, err)
	t.Cleanup(func() { change(t, "{}") })
	change(t, `{"views":["by_date"]}`)
	layout := func(id string) string {
		publish(t, "job_extraction.openai", id, `{"jobs":[{"title":"x"}]}`, nil)
		return entry(t, id).Layout
	}
	run, n := fmt.Sprintf("bad%d", policyRuns.Add(1)), 0
	next := func() string { n++; return layout(fmt.Sprintf("%s-%d", run, n)) }
	require.Eventually(t, func() bool { return next() == "by_date;raw,validated,enriched,standardized" }, waitFor, poll)
	// Somebody who does not use our command.
	_, err = kv.Put(t.Context(), policy.KeyStorage, []byte(`{"views":[]}`), 0)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), policy.KeyStorage, []byte(`{"views":["by_moon"]}`), 0)
	require.NoError(t, err)
	for range 5 {
		require.Equal(t, "by_date;raw,validated,enriched,standardized", next())
	}
	require.Empty(t, line.Ready(t.Context()), "the line works on")
	kept, err := policy.Read(t.Context(), line.Bus, policy.Seed(nil))
	require.NoError(t, err)
	require.ErrorContains(t, kept.Refused, "/views/0")

	change(t, "{}")
	all := policy.Seed(nil).Layout().String()
	require.Eventually(t, func() bool { return next() == all }, waitFor, poll, "the tests that follow find all views")
}

// restarted runs a line over dir twice, with other views in its environment the second time,
// and says what is wrong with the policy that it has then. It comes before the line of the
// other tests, for the embedded store allows only one in a process.
func restarted(dir string) error {
	var views []contract.View
	for _, env := range []string{"by_task_type", "by_date,by_provider"} {
		err := up.Run(context.Background(), up.Config{
			Dir: dir, NATSAddr: "127.0.0.1:0", S3Addr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
			Logs: io.Discard, Level: zerolog.InfoLevel, Console: zerolog.WarnLevel, Vars: map[string]string{"STORE_VIEWS": env},
		}, func(ctx context.Context, i *up.Instance) error {
			kept, err := policy.Read(ctx, i.Bus, policy.Seed(nil))
			if err != nil {
				return err
			}
			views = kept.Views
			return up.ErrEnough
		})
		if err != nil {
			return err
		}
	}
	if len(views) != 1 || views[0] != contract.ByTask {
		return fmt.Errorf("after a restart the views are %v: STORE_VIEWS of the first start seeds the policy, and that counts from then on", views)
	}
	return nil
}
