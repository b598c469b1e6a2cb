package doc

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

var (
	idPattern       = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	providerPattern = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)
	fileNamePattern = regexp.MustCompile(`^(\d{8}_\d{6})_(intent_analysis|job_extraction|data_enrichment|quality_validation)_([a-z0-9-]{1,32})_(.+)\.json$`)

	sumPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

	// space is the namespace of the ids made here.
	space = uuid.NewSHA1(uuid.NameSpaceDNS, []byte("millrace.jobspy.github.com"))
)

// maxSession is the longest session in a file name, in bytes.
const maxSession = 64

// ValidID reports whether s may be a file_id or another id.
func ValidID(s string) bool { return idPattern.MatchString(s) }

// ValidProvider reports whether s may be a provider.
func ValidProvider(s string) bool { return providerPattern.MatchString(s) }

// Sum returns the sha256 of b in lower-case hex.
func Sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// NewID makes the file_id of a message that brought none, a UUIDv8 (RFC 9562) of where the
// broker stored the message first and of the sha256 of its body.
func NewID(o Origin, sha string) string {
	return derive(fmt.Sprintf("%s\n%d\n%d\n%s", o.Stream, o.Seq, o.Time.UnixNano(), sha))
}

func derive(text string) string {
	return uuid.NewHash(sha256.New(), space, []byte(text), 8).String()
}

// FileName returns {timestamp}_{task}_{provider}_{session}.json. Without a session it is the
// file_id; a longer one is cut and gets 8 hex digits of its sha256.
func FileName(created time.Time, task, provider, session, fileID string) string {
	if session == "" {
		session = fileID
	}
	if len(session) > maxSession {
		session = session[:maxSession-9] + "-" + Sum([]byte(session))[:8]
	}
	return fmt.Sprintf("%s_%s_%s_%s.json", created.UTC().Format("20060102_150405"), clean(task), clean(provider), clean(session))
}

// SecondName returns the name of a document whose name is taken by another document.
func SecondName(name, fileID string) string {
	return strings.TrimSuffix(name, ".json") + "_" + Sum([]byte(fileID))[:8] + ".json"
}

// ParseFileName reads task, provider and session out of a file name.
func ParseFileName(name string) (task, provider, session string, ok bool) {
	m := fileNamePattern.FindStringSubmatch(name)
	if m == nil {
		return "", "", "", false
	}
	return m[2], m[3], m[4], true
}

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		default:
			return '_'
		}
	}, s)
}

// Date returns the day of t as it stands in keys.
func Date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Views returns where the documents of a class are kept, in the order of views.
func Views(c contract.Class, views []contract.View, created time.Time, provider, task, name string) []store.Ref {
	bucket, prefix := contract.ClassBucket(c)
	refs := make([]store.Ref, 0, len(views))
	for _, v := range views {
		dir := Date(created)
		switch v {
		case contract.ByProvider:
			dir = provider
		case contract.ByTask:
			dir = task
		case contract.ByDate:
		}
		refs = append(refs, store.Ref{Bucket: bucket, Key: prefix + string(v) + "/" + dir + "/" + name})
	}
	return refs
}

// ResultRef returns where the result of a document is kept.
func ResultRef(created time.Time, fileID string) store.Ref {
	return store.Ref{Bucket: contract.BucketJobs, Key: "processed/" + Date(created) + "/" + fileID + ".json"}
}
