package store

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jobspy/millrace/shared/fault"
)

// The limits that every store shares, so that what one takes all take.
const (
	// MaxKey is the longest key in bytes, as in S3.
	MaxKey = 1024
	// MaxSegment is the longest part of a key between two slashes, in bytes: a file name.
	MaxSegment = 255
	// MaxMeta is the largest sum of the names and values of an object's metadata, in bytes,
	// as in S3.
	MaxMeta = 2048
	// DefaultContentType is the type of an object that names none.
	DefaultContentType = "application/json"
)

// Check reports what is wrong with an object that is to be stored: its key (see CheckRef)
// or its metadata, whose names are lower-case header names and whose values are printable
// ASCII without blanks at the ends, because that is what every store gives back unchanged.
func Check(o Object) error {
	if err := CheckRef(o.Ref); err != nil {
		return err
	}
	if err := checkValue(o.ContentType); err != nil {
		return fmt.Errorf("object %q: content type: %w", o.Ref, err)
	}
	size := 0
	for name, value := range o.Meta {
		size += len(name) + len(value)
		if err := checkName(name); err != nil {
			return fmt.Errorf("object %q: metadata name %q: %w", o.Ref, name, err)
		}
		if err := checkValue(value); err != nil {
			return fmt.Errorf("object %q: metadata %q: %w", o.Ref, name, err)
		}
	}
	if size > MaxMeta {
		return fmt.Errorf("object %q: metadata has %d bytes, the limit is %d", o.Ref, size, MaxMeta)
	}
	return nil
}

// CheckRef reports what is wrong with the name of an object. A key is valid UTF-8 without
// control characters, its segments are neither empty nor "." or "..", so that it means the
// same file wherever a store is a folder.
func CheckRef(r Ref) error {
	if r.Bucket == "" || strings.ContainsAny(r.Bucket, "/\x00") || r.Bucket[0] == '.' {
		return fmt.Errorf("%q is no name of a bucket", r.Bucket)
	}
	if r.Key == "" || len(r.Key) > MaxKey || !utf8.ValidString(r.Key) {
		return fmt.Errorf("key %q: must be valid UTF-8 of 1 to %d bytes", r.Key, MaxKey)
	}
	if strings.ContainsFunc(r.Key, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("key %q: has a control character", r.Key)
	}
	for s := range strings.SplitSeq(r.Key, "/") {
		if s == "" || s == "." || s == ".." || len(s) > MaxSegment {
			return fmt.Errorf("key %q: a segment is empty, a dot, or over %d bytes", r.Key, MaxSegment)
		}
	}
	return nil
}

func checkName(name string) error {
	ok := func(c rune) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' }
	if name == "" || strings.ContainsFunc(name, func(c rune) bool { return !ok(c) }) {
		return errors.New("must be of a-z, 0-9 and -")
	}
	return nil
}

func checkValue(v string) error {
	if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c > '~' }) || strings.TrimSpace(v) != v {
		return fmt.Errorf("value %q must be printable ASCII without blanks at its ends", v)
	}
	return nil
}

// contentType returns the type under which o is stored.
func (o Object) contentType() string {
	if o.ContentType == "" {
		return DefaultContentType
	}
	return o.ContentType
}

// missingIsDown gives an error of a put that says "no such bucket" the verdict that the
// store is down: it is not set up yet, which is no fault of the object.
func missingIsDown(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fault.Down(err)
	}
	return err
}

// ParseRef reads a name as Ref.String writes it; ok says whether it is one.
func ParseRef(s string) (r Ref, ok bool) {
	r.Bucket, r.Key, _ = strings.Cut(s, "/")
	return r, s != "" && CheckRef(r) == nil
}
