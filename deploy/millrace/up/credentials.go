package up

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// CredentialsFile is the name, in the data folder, of the file with the keys of the embedded
// object store and the addresses, as lines NAME=value.
const CredentialsFile = "credentials.env"

// ReadCredentials reads the credentials file of a data folder. Without one it returns an
// empty map.
func ReadCredentials(dir string) (map[string]string, error) {
	f, err := os.Open(filepath.Join(dir, CredentialsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	vars := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if ok && !strings.HasPrefix(name, "#") {
			vars[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return vars, nil
}

// writeCredentials writes the credentials file, readable by its owner alone.
func writeCredentials(dir string, vars map[string]string) error {
	var b strings.Builder
	b.WriteString("# Written by millrace up. Keys of the embedded object store, and where everything is.\n")
	for _, name := range []string{"S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_ENDPOINT", "S3_REGION", "NATS_URL", "NATS_MONITOR_URL"} {
		if v := vars[name]; v != "" {
			fmt.Fprintf(&b, "%s=%s\n", name, v)
		}
	}
	path := filepath.Join(dir, CredentialsFile)
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}

// keys returns the S3 keys: those of the environment, else those kept in dir, else new ones.
func keys(dir string, env map[string]string) (access, secret string, err error) {
	kept, err := ReadCredentials(dir)
	if err != nil {
		return "", "", err
	}
	for _, vars := range []map[string]string{env, kept} {
		access, secret = vars["S3_ACCESS_KEY"], vars["S3_SECRET_KEY"]
		if (access == "") != (secret == "") {
			return "", "", errors.New("S3_ACCESS_KEY and S3_SECRET_KEY must be set both or neither")
		}
		if access != "" {
			return access, secret, nil
		}
	}
	return "millrace-" + rand.Text()[:8], rand.Text(), nil
}
