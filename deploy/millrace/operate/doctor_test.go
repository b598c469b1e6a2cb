package operate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/bustest"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

// probed is a memory store that says what it can do.
type probed struct {
	*store.Memory
	can store.Capabilities
	err error
}

func (p probed) Probe(context.Context) (store.Capabilities, error) { return p.can, p.err }

// verdicts returns the worst verdict of each check.
func verdicts(checks []Check) map[string]Verdict {
	worst := map[string]Verdict{}
	for _, c := range checks {
		if worst[c.Name] != Fail {
			worst[c.Name] = c.Verdict
		}
	}
	return worst
}

func TestProvisionAndDoctorOnARealBroker(t *testing.T) {
	t.Parallel()
	j := bustest.Connect(t, bustest.Server(t))
	s := probed{Memory: store.NewMemory(nil), can: store.Capabilities{ConditionalPut: true, Checksums: true}}
	plan := topology.Plan(bustest.Options(topology.Options{}))
	doctor := Doctor{
		Bus:  func(context.Context) (*bus.JetStream, error) { return j, nil },
		S3:   func(context.Context) (ProbedStore, error) { return s, nil },
		Plan: plan, Data: t.TempDir(),
	}
	before := verdicts(doctor.Run(t.Context()))
	require.Equal(t, Fail, before["streams"])
	require.Equal(t, Fail, before["buckets"])
	require.NotContains(t, before, "test object")

	would, err := Provision(t.Context(), Provisioning{Bus: j, Store: s, Plan: plan, Seed: policy.Seed(nil), DryRun: true})
	require.NoError(t, err)
	require.Equal(t, Fail, verdicts(doctor.Run(t.Context()))["streams"], "a dry run changes nothing")
	did, err := Provision(t.Context(), Provisioning{Bus: j, Store: s, Plan: plan, Seed: policy.Seed(nil)})
	require.NoError(t, err)
	require.Equal(t, would, did)
	again, err := Provision(t.Context(), Provisioning{Bus: j, Store: s, Plan: plan, Seed: policy.Seed(nil)})
	require.NoError(t, err)
	for _, c := range again {
		require.Equal(t, topology.Unchanged, c.Action, c.Name)
	}
	after := verdicts(doctor.Run(t.Context()))
	require.Contains(t, after, "disk")
	delete(after, "disk") // how much room there is, is not the test's
	require.Equal(t, map[string]Verdict{
		"broker": OK, "sync": Warn, "streams": OK, "ghosts": OK, "room": OK, "policy": OK, "broker clock": OK, "buckets": OK, "store": OK,
		"test object": OK, "store clock": OK,
	}, after)
	for range s.List(t.Context(), contract.BucketProcessed, "") {
		t.Fatal("the doctor left something behind")
	}
}

func TestTheDoctorGoesOnWithoutABroker(t *testing.T) {
	t.Parallel()
	doctor := Doctor{
		Bus: func(context.Context) (*bus.JetStream, error) { return nil, errors.New("no broker") },
		S3:  func(context.Context) (ProbedStore, error) { return nil, errors.New("no keys") },
	}
	require.Equal(t, []Check{
		{"broker", Fail, "no broker", "start the broker, or set NATS_URL"},
		{"store", Fail, "no keys", "set S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY"},
	}, doctor.Run(t.Context()))
}

func TestAStoreWithoutConditionalPutsIsAWarning(t *testing.T) {
	t.Parallel()
	var d Doctor
	d.capabilities(store.Capabilities{Versioning: true})
	require.Equal(t, Warn, d.checks[0].Verdict)
	require.Contains(t, d.checks[0].Detail, "can do: versioning;")
}

func TestSyncIsProvenByTheMonitoring(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		want   Verdict
	}{
		{"always", http.StatusOK, `{"config":{"sync_interval":120000000000,"sync_always":true}}`, OK},
		{"every two minutes", http.StatusOK, `{"config":{"sync_interval":120000000000}}`, Fail},
		{"no answer to the question", http.StatusNotFound, `{}`, Warn},
		{"no JSON", http.StatusOK, `<html>`, Warn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("/jsz", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			})
			server := httptest.NewServer(mux)
			defer server.Close()
			defer http.DefaultClient.CloseIdleConnections()
			d := Doctor{MonitorURL: server.URL + "/"}
			d.sync(t.Context())
			require.Equal(t, tt.want, d.checks[0].Verdict, d.checks[0].Detail)
		})
	}
}

func TestSyncIsProvenOfEachBroker(t *testing.T) {
	t.Parallel()
	answer := func(body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		t.Cleanup(server.Close)
		return server.URL
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	d := Doctor{MonitorURL: answer(`{"config":{"sync_always":true}}`) + ", " + answer(`{"config":{}}`)}
	d.sync(t.Context())
	require.Len(t, d.checks, 2)
	require.Equal(t, OK, d.checks[0].Verdict)
	require.Equal(t, Fail, d.checks[1].Verdict)
}

func TestClocksApart(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		remote time.Duration
		want   Verdict
	}{{0, OK}, {-1900 * time.Millisecond, OK}, {-2900 * time.Millisecond, OK}, {-4 * time.Second, Warn}, {5 * time.Second, Warn}, {-time.Hour, Fail}, {time.Hour, Fail}} {
		var d Doctor
		d.clock("clock", now.Add(tt.remote), now, now.Add(time.Millisecond), time.Second)
		require.Equal(t, tt.want, d.checks[0].Verdict, tt.remote)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"2.9.9", "2.14.0", true},
		{"2.14.0", "2.14.0", false},
		{"2.15.1", "2.15.2", true},
		{"2.15.2-RC.1", "2.15.2", false},
		{"3.0.0", "2.15.2", false},
		{"dev", "2.15.2", false},
		{"", "2.15.2", false},
		{"2.15", "2.15.2", false},
	} {
		require.Equal(t, tt.want, older(tt.a, tt.b), tt.a)
	}
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/bad": `{"status":"not ready","reasons":{"store":"gone","broker":"away"}}`, "/odd": "\x00",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, ok := answers[r.URL.Path]; ok {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, body)
		}
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	require.NoError(t, Healthy(t.Context(), server.URL+"/readyz"))
	require.EqualError(t, Healthy(t.Context(), server.URL+"/bad"),
		server.URL+"/bad answers 503 Service Unavailable\n  broker: away\n  store: gone")
	require.EqualError(t, Healthy(t.Context(), server.URL+"/odd"), server.URL+"/odd answers 503 Service Unavailable")
	require.Error(t, Healthy(t.Context(), "http://127.0.0.1:1/readyz"))
}

func TestAwaitTriesUntilItIsOverOrHopeless(t *testing.T) {
	t.Parallel()
	hopeless := errors.New("hopeless")
	n := 0
	err := Await(t.Context(), time.Minute, func(err error) bool { return errors.Is(err, hopeless) }, func(context.Context) error {
		if n++; n == 2 {
			return hopeless
		}
		return errors.New("not yet")
	})
	require.ErrorIs(t, err, hopeless)
	require.Equal(t, 2, n)
	require.EqualError(t, Await(t.Context(), 0, func(error) bool { return false }, func(context.Context) error { return errors.New("not yet") }), "not yet")
}
