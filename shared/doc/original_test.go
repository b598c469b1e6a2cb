package doc_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

func anOriginal(session string) doc.Original {
	return doc.Original{
		FileID: "f1", Name: doc.FileName(created, "job_extraction", "open_ai", session, "f1"), Task: "job_extraction", Provider: "open_ai",
		Lane: contract.High, CreatedAt: created, SHA256: doc.Sum(nil), Reason: contract.ReasonConflict, ProducerFileID: "f0",
	}
}

func TestAnOriginalIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	want := anOriginal("s")
	refs := doc.Views(contract.ClassRaw, contract.Views(), created, want.Provider, want.Task, want.Name)
	for _, r := range refs {
		got, err := doc.ReadOriginal(r, want.Meta())
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	want.Reason, want.ProducerFileID = "", "a b"
	require.Len(t, want.Meta(), 7, "what is empty or fits no header is left out")
	_, err := doc.ReadOriginal(store.Ref{Bucket: contract.BucketRaw, Key: "_inbox/f1"}, want.Meta())
	require.ErrorContains(t, err, "does not belong there")
	_, err = doc.ReadOriginal(refs[0], map[string]string{contract.MetaLane: "urgent"})
	for _, name := range []string{"file-id", "task", "provider", `lane of llm-raw/by_date/2025-01-27/`, `"urgent"`, "created-at", "sha256"} {
		require.ErrorContains(t, err, name)
	}
}

func TestTheSessionInAFileName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("s", 70)
	for session, want := range map[string]string{"": "", "f1": "", "a_b": "a_b", "a b": "a_b", long: long[:55] + "-" + doc.Sum([]byte(long))[:8]} {
		o := anOriginal(session)
		require.Equal(t, want, o.Session(), session)
		o.Name = doc.SecondName(o.Name, o.FileID)
		require.Equal(t, want, o.Session(), "%s, where the name was taken", session)
	}
}
