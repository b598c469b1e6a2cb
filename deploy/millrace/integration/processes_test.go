//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

func TestEachStageKilledUnderLoadLosesNothing(t *testing.T) { //nolint:paralleltest // each has the whole machine under load
	const perKill = 100
	bin := binaries(t)
	dir := t.TempDir()
	natsAddr, s3Addr := freeAddr(t), freeAddr(t)

	conf := filepath.Join(dir, "nats.conf")
	require.NoError(t, os.WriteFile(conf, []byte(
		"listen: "+natsAddr+"\nmax_payload: 8388608\njetstream { store_dir: '"+filepath.Join(dir, "nats")+"', sync_interval: always }\n"), 0o600))
	run(t, nil, tool(t, "NATS_SERVER_BIN"), "-c", conf)
	env := []string{
		"MINIO_ROOT_USER=integration", "MINIO_ROOT_PASSWORD=integration-secret",
		"S3_ACCESS_KEY=integration", "S3_SECRET_KEY=integration-secret",
		"S3_ENDPOINT=" + s3Addr, "NATS_URL=nats://" + natsAddr, unreachable,
	}
	run(t, env, tool(t, "MINIO_BIN"), "server", filepath.Join(dir, "minio"), "--address", s3Addr, "--console-address", freeAddr(t), "--quiet")

	// The stages come up before there is anything to bind to, and wait.
	stages := map[contract.Stage]*process{}
	addrs := map[contract.Stage]string{}
	for _, s := range contract.Stages() {
		addrs[s] = freeAddr(t)
		stages[s] = run(t, append(env, "HTTP_ADDR="+addrs[s]), filepath.Join(bin, string(s)))
	}
	provision := run(t, env, filepath.Join(bin, "millrace"), "provision", "--wait", "60s")
	<-provision.done
	require.True(t, provision.cmd.ProcessState.Success())
	for _, addr := range addrs {
		ready(t, addr)
	}
	b := connect(t, natsAddr)
	documents := perKill * (len(contract.Stages()) + 2)
	all := make(chan []sent, 1)
	go func() {
		published, err := publish(t.Context(), b, 0, documents)
		if err != nil {
			t.Error(err)
		}
		all <- published
	}()
	for i, s := range contract.Stages() {
		reach(t, b, (i+1)*perKill/2)
		stages[s].kill()
		stages[s].start()
	}
	accepted := <-all
	reach(t, b, documents)
	emptied(t, b)
	s, err := store.OpenS3(t.Context(), store.S3Settings{Endpoint: s3Addr, AccessKey: "integration", SecretKey: "integration-secret"})
	require.NoError(t, err)
	defer s.Close()
	check(t, b, s, accepted)
}
