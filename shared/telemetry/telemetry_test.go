package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/jobspy/millrace/shared/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get asks a server and returns status and body.
func get(t *testing.T, s *telemetry.Server, path string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+path, http.NoBody)
	require.NoError(t, err)
	r, err := client.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	return r.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "millrace_test", Help: "A number."}))
	problems := map[string]error{"store": errors.New("no connection")}
	s, err := telemetry.Serve("127.0.0.1:0", reg, func(context.Context) map[string]error { return problems })
	require.NoError(t, err)

	status, body := get(t, s, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.JSONEq(t, `{"status":"not ready","reasons":{"store":"no connection"}}`, body)
	delete(problems, "store")
	status, _ = get(t, s, "/readyz")
	require.Equal(t, http.StatusOK, status)
	status, _ = get(t, s, "/healthz")
	require.Equal(t, http.StatusOK, status)
	_, body = get(t, s, "/metrics")
	require.Contains(t, body, "millrace_test 0")

	_, err = telemetry.Serve(s.Addr(), reg, nil)
	require.ErrorContains(t, err, s.Addr(), "a taken address is named")
	require.NoError(t, s.Stop())
}

func TestLogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := telemetry.Logger(&out, "warn")
	require.NoError(t, err)
	log.Info().Msg("not seen")
	log.Warn().Msg("seen")
	require.NotContains(t, out.String(), "not seen")
	require.Contains(t, out.String(), `"message":"seen"`)
	for _, level := range []string{"", "loud"} {
		_, err = telemetry.Logger(&out, level)
		require.ErrorContains(t, err, "LOG_LEVEL")
	}
}
