package operate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/config"
)

// creds writes a credentials file whose user has the given claims.
func creds(t *testing.T, claims string) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	text := fmt.Sprintf("-----BEGIN NATS USER JWT-----\n%s.%s.%s\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\nSUA\n------END USER NKEY SEED------\n",
		b64([]byte(`{"typ":"JWT"}`)), b64([]byte(claims)), b64([]byte("signature")))
	path := filepath.Join(t.TempDir(), "user.creds")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// certificate writes a certificate that is good until a time.
func certificate(t *testing.T, until time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "client.crt")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return path
}

func TestCredentialsThatExpireAreFound(t *testing.T) {
	t.Parallel()
	exp := func(in time.Duration) string { return fmt.Sprintf(`{"exp":%d}`, time.Now().Add(in).Unix()) }
	nothing := filepath.Join(t.TempDir(), "nothing")
	require.NoError(t, os.WriteFile(nothing, []byte("nothing"), 0o600))
	tests := []struct {
		name   string
		files  config.NATS
		want   Verdict
		detail string
	}{
		{"a user for ever", config.NATS{Creds: creds(t, `{}`)}, OK, "NATS_CREDS does not expire"},
		{"a user for a year", config.NATS{Creds: creds(t, exp(365*24*time.Hour))}, OK, "NATS_CREDS is good until "},
		{"a user for a day", config.NATS{Creds: creds(t, exp(24*time.Hour))}, Warn, "NATS_CREDS expires on "},
		{"a user that was", config.NATS{Creds: creds(t, exp(-time.Hour))}, Fail, "NATS_CREDS has expired on "},
		{"no user", config.NATS{Creds: nothing}, Fail, "holds no NATS user JWT"},
		{"a certificate for a year", config.NATS{Cert: certificate(t, time.Now().Add(365*24*time.Hour))}, OK, "NATS_CERT is good until "},
		{"a certificate for a day", config.NATS{Cert: certificate(t, time.Now().Add(24*time.Hour))}, Warn, "NATS_CERT expires on "},
		{"an authority that was", config.NATS{CA: certificate(t, time.Now().Add(-time.Minute))}, Fail, "NATS_CA has expired on "},
		{"no certificate", config.NATS{Cert: nothing}, Fail, "holds no certificate"},
		{"no file", config.NATS{Cert: nothing + "-at-all"}, Fail, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := Doctor{NATS: tt.files}
			d.credentials(nil)
			require.Len(t, d.checks, 1)
			require.Equal(t, tt.want, d.checks[0].Verdict)
			require.Contains(t, d.checks[0].Detail, tt.detail)
		})
	}
}
