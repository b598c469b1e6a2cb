package operate

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jobspy/millrace/shared/codec"
)

// soon is how long before they expire credentials are a warning.
const soon = 14 * 24 * time.Hour

// credentials looks at when what lets us in stops doing so. nc may be nil.
func (d *Doctor) credentials(nc *nats.Conn) {
	if d.NATS.Creds != "" {
		until, err := jwtExpiry(d.NATS.Creds)
		d.expiry("NATS_CREDS", until, err)
	}
	for _, f := range []struct{ name, path string }{{"NATS_CERT", d.NATS.Cert}, {"NATS_CA", d.NATS.CA}} {
		if f.path != "" {
			until, err := certificateExpiry(f.path)
			d.expiry(f.name, until, err)
		}
	}
	if nc == nil {
		return
	}
	if state, err := nc.TLSConnectionState(); err == nil && len(state.PeerCertificates) > 0 {
		d.expiry("certificate of the broker", state.PeerCertificates[0].NotAfter, nil)
	}
}

// expiry judges a time; the zero time means never.
func (d *Doctor) expiry(name string, until time.Time, err error) {
	left := time.Until(until)
	switch {
	case err != nil:
		d.note("credentials", Fail, "", "%s: %v", name, err)
	case until.IsZero():
		d.note("credentials", OK, "", "%s does not expire", name)
	case left <= 0:
		d.note("credentials", Fail, "renew it", "%s has expired on %s", name, until.UTC().Format(time.RFC3339))
	case left < soon:
		d.note("credentials", Warn, "renew it", "%s expires on %s", name, until.UTC().Format(time.RFC3339))
	default:
		d.note("credentials", OK, "", "%s is good until %s", name, until.UTC().Format(time.RFC3339))
	}
}

// jwtExpiry returns when the user of a credentials file expires.
func jwtExpiry(path string) (time.Time, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, err
	}
	_, rest, begins := bytes.Cut(text, []byte("-----BEGIN NATS USER JWT-----"))
	token, _, _ := bytes.Cut(rest, []byte("---"))
	parts := strings.Split(strings.TrimSpace(string(token)), ".")
	if !begins || len(parts) != 3 {
		return time.Time{}, fmt.Errorf("%s holds no NATS user JWT", path)
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, fmt.Errorf("read the JWT in %s: %w", path, err)
	}
	var c struct {
		Exp int64 `json:"exp"` // Unix seconds; 0 means never
	}
	if err := codec.Unmarshal(claims, &c); err != nil {
		return time.Time{}, fmt.Errorf("read the JWT in %s: %w", path, err)
	}
	if c.Exp == 0 {
		return time.Time{}, nil
	}
	return time.Unix(c.Exp, 0), nil
}

// certificateExpiry returns when the first of the certificates in a file expires.
func certificateExpiry(path string) (first time.Time, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return first, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return first, fmt.Errorf("read the certificate in %s: %w", path, err)
		}
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	if first.IsZero() {
		return first, fmt.Errorf("%s holds no certificate", path)
	}
	return first, nil
}
