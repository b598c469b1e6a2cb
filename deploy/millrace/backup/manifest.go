package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jobspy/millrace/shared/codec"
)

const (
	// ManifestFile is the file that makes a folder a backup; it is written last.
	ManifestFile = "manifest.json"
	// format is the form of the manifest.
	format = 1
)

// Manifest says what a backup holds.
type Manifest struct {
	Format int       `json:"format"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	Server string    `json:"server"` // version of the broker
	// InHand is how many retries somebody still worked on when the backup was made: these may
	// be missing.
	InHand  int    `json:"in_hand"`
	Streams []Part `json:"streams"`
}

// Part is one stream of a backup.
type Part struct {
	Stream    string          `json:"stream"`
	File      string          `json:"file"`
	Bytes     int64           `json:"bytes"` // of the file
	SHA256    string          `json:"sha256"`
	Messages  uint64          `json:"messages"`
	LastSeq   uint64          `json:"last_seq"`
	Consumers int             `json:"consumers"`
	Config    json.RawMessage `json:"config"` // as the broker tells and takes it
	State     json.RawMessage `json:"state"`
}

// DamageError says that a backup is not what it was.
type DamageError struct{ File, What string }

func (e *DamageError) Error() string { return "the backup is damaged: " + e.File + " " + e.What }

// count reads the counts out of the state.
func (p *Part) count() error {
	var s struct {
		Messages  uint64 `json:"messages"`
		LastSeq   uint64 `json:"last_seq"`
		Consumers int    `json:"consumer_count"`
	}
	if err := codec.Unmarshal(p.State, &s); err != nil {
		return fmt.Errorf("read the state of %s: %w", p.Stream, err)
	}
	p.Messages, p.LastSeq, p.Consumers = s.Messages, s.LastSeq, s.Consumers
	return nil
}

// write writes the manifest so that it is there as a whole or not at all.
func (m *Manifest) write(dir string) error {
	body, err := codec.MarshalIndent(m)
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	path := filepath.Join(dir, ManifestFile)
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, filePerm)
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	_, err = f.Write(append(body, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	return nil
}

// Read reads the manifest of a backup and makes sure that every file is what it was. Errors:
// DamageError, fs.ErrNotExist where the folder holds no backup.
func Read(dir string) (m Manifest, err error) {
	body, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return m, fmt.Errorf("read the manifest of the backup: %w", err)
	}
	if err := codec.Unmarshal(body, &m); err != nil {
		return m, &DamageError{ManifestFile, "cannot be read: " + err.Error()}
	}
	if m.Format != format {
		return m, fmt.Errorf("the backup has form %d, known is %d", m.Format, format)
	}
	for _, p := range m.Streams {
		if err := p.verify(dir); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (p *Part) verify(dir string) error {
	if p.File != filepath.Base(p.File) {
		return &DamageError{ManifestFile, fmt.Sprintf("names a file %q", p.File)}
	}
	f, err := os.Open(filepath.Join(dir, p.File))
	if err != nil {
		return &DamageError{p.File, "cannot be opened: " + err.Error()}
	}
	defer f.Close() //nolint:errcheck // it was only read
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", p.File, err)
	case n != p.Bytes:
		return &DamageError{p.File, fmt.Sprintf("has %d bytes instead of %d", n, p.Bytes)}
	case hex.EncodeToString(sum.Sum(nil)) != p.SHA256:
		return &DamageError{p.File, "has another sha256 than in the manifest"}
	}
	return nil
}
