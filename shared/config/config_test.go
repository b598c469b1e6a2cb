package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/config"
)

func TestASecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	c := config.S3{SecretKey: "hunter2"}
	asJSON, err := json.Marshal(c)
	require.NoError(t, err)
	for _, printed := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), string(asJSON)} {
		require.NotContains(t, printed, "hunter2")
		require.Contains(t, printed, "[redacted]")
	}
}

func TestEnvironReadsSecretsFromFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte("hunter2\n"), 0o600))
	vars, err := config.Environ([]string{"S3_SECRET_KEY_FILE=" + path, "S3_REGION=eu"})
	require.NoError(t, err)
	c, err := config.Parse[config.Common](vars)
	require.NoError(t, err)
	require.Equal(t, config.Secret("hunter2"), c.S3.SecretKey)
	require.Equal(t, "eu", c.S3.Region)
	require.Equal(t, "nats://127.0.0.1:4222", c.NATS.URL)
}

func TestEnvironRefuses(t *testing.T) {
	t.Parallel()
	large := filepath.Join(t.TempDir(), "large")
	require.NoError(t, os.WriteFile(large, make([]byte, 65<<10), 0o600))
	tests := []struct {
		name, want string
		lines      []string
	}{
		{"a file that is missing", "S3_SECRET_KEY_FILE", []string{"S3_SECRET_KEY_FILE=" + large + ".no"}},
		{"a file that is too large", "over 65536 bytes", []string{"S3_SECRET_KEY_FILE=" + large}},
		{"a value and a file", "both set", []string{"S3_SECRET_KEY_FILE=" + large, "S3_SECRET_KEY=x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Environ(tt.lines)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestParseListsEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	type numbers struct {
		A int  `env:"A"`
		B bool `env:"B"`
	}
	_, err := config.Parse[numbers](map[string]string{"A": "x", "B": "y"})
	require.ErrorContains(t, err, `"A"`)
	require.ErrorContains(t, err, `"B"`)
}
