// Package config reads settings from the environment and says everything that is wrong
// with them at once. What connects a process to the broker and the store is here, because
// every binary needs it; settings of one part stand beside that part.
package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Secret is a setting that is never printed.
type Secret string

// String returns a stand-in.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// GoString returns a stand-in.
func (s Secret) GoString() string { return s.String() }

// MarshalText gives a stand-in to whoever prints or logs a configuration.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Common is what every binary of the line reads.
type Common struct {
	NATS NATS `envPrefix:"NATS_"`
	S3   S3   `envPrefix:"S3_"`
	// HTTPAddr is where a stage serves health and metrics, as host:port. Empty takes port 8081
	// to 8088 of 127.0.0.1, in the order of the line.
	HTTPAddr string `env:"HTTP_ADDR"`
	// LogLevel is the level from which on lines are logged: trace, debug, info, warn or error.
	// debug logs each document.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`
}

// NATS says how to reach the broker.
type NATS struct {
	// URL is the address of the broker. Several servers of a cluster are separated by commas.
	URL string `env:"URL" envDefault:"nats://127.0.0.1:4222"`
	// Creds is the path of a credentials file (JWT). Empty connects without one.
	Creds string `env:"CREDS"`
	// NKeyFile is the path of a file with an nkey seed. Empty connects without one.
	NKeyFile string `env:"NKEY_FILE"`
	// CA is the path of a file with the certificates that the broker's is checked against. Empty
	// takes those of the system.
	CA string `env:"CA"`
	// Cert is the path of the client certificate, for brokers that ask for one. NATS_KEY has to
	// be set too.
	Cert string `env:"CERT"`
	// Key is the path of the key of the client certificate.
	Key string `env:"KEY"`
}

// S3 says how to reach the object store.
type S3 struct {
	// Endpoint is the address of the object store, as host:port.
	Endpoint string `env:"ENDPOINT" envDefault:"127.0.0.1:9000"`
	// AccessKey is the name with which the object store is asked.
	AccessKey Secret `env:"ACCESS_KEY"`
	// SecretKey is the secret that belongs to the access key.
	SecretKey Secret `env:"SECRET_KEY"`
	// Secure is whether the object store is asked over TLS.
	Secure bool `env:"SECURE" envDefault:"false"`
	// Region is the region of the buckets. Stores of one's own take any.
	Region string `env:"REGION" envDefault:"us-east-1"`
}

// secrets are the settings that may come from a file named by <name>_FILE.
var secrets = []string{"S3_ACCESS_KEY", "S3_SECRET_KEY"}

// maxSecret is the largest secret file that is read, in bytes.
const maxSecret = 64 << 10

// Environ turns "NAME=value" lines into a map and reads the files that hold secrets.
func Environ(lines []string) (map[string]string, error) {
	vars := env.ToMap(lines)
	var errs []error
	for _, name := range secrets {
		path := vars[name+"_FILE"]
		if path == "" {
			continue
		}
		if vars[name] != "" {
			errs = append(errs, fmt.Errorf("%s and %s_FILE are both set, set one", name, name))
			continue
		}
		info, err := os.Stat(path)
		if err == nil && info.Size() > maxSecret {
			err = fmt.Errorf("%s is over %d bytes", path, maxSecret)
		}
		var b []byte
		if err == nil {
			b, err = os.ReadFile(path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s_FILE: %w", name, err))
			continue
		}
		vars[name] = strings.TrimSpace(string(b))
	}
	return vars, errors.Join(errs...)
}

// Parse fills a configuration from vars and validates it, if it can be validated. The
// error lists everything that is wrong.
func Parse[C any](vars map[string]string) (C, error) {
	c, err := env.ParseAsWithOptions[C](env.Options{Environment: maps.Clone(vars)})
	if err != nil {
		return c, err
	}
	if v, ok := any(c).(interface{ Validate() error }); ok {
		return c, v.Validate()
	}
	return c, nil
}

// Param is one setting, for documents about them.
type Param struct {
	Name, Default string
	Required      bool
}

// Params lists the settings of C in the order of its fields.
func Params[C any]() ([]Param, error) {
	var c C
	fields, err := env.GetFieldParams(&c)
	if err != nil {
		return nil, err
	}
	params := make([]Param, 0, len(fields))
	for _, f := range fields {
		params = append(params, Param{Name: f.Key, Default: f.DefaultValue, Required: f.Required})
	}
	return slices.Clip(params), nil
}
