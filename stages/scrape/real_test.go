package scrape

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/doc"
)

// captured reads recorded boards from $TEST_DATA/boards/greenhouse.
func captured(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("TEST_DATA")
	if dir == "" {
		t.Skip("SKIPPED: TEST_DATA is not set, recorded boards are not tried")
	}
	b, err := os.ReadFile(filepath.Join(dir, "boards", "greenhouse", name))
	require.NoError(t, err, "TEST_DATA is set, so the data must be there")
	return string(b)
}

func TestRecordedBoardsGiveTheJobsThatWereLookedFor(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.on(jobsPath("gitlab"), gives(captured(t, "gitlab_breteai.json")))
	b.on(jobsPath("amplitude"), gives(captured(t, "careerkit_greenhouse.json")))
	h := build(t, b.URL, map[string]string{"SOURCE_GREENHOUSE_BOARDS": "gitlab,amplitude"}, nil)
	tests := []struct {
		name   string
		intent doc.Intent
		want   []string
	}{
		{"a title alone", doc.Intent{JobTitle: "account executive"}, []string{"8503792002", "8651132002"}},
		{"a skill is enough", doc.Intent{JobTitle: "plumber", Skills: []string{"experimentation"}}, []string{"8636903002"}},
		{"a place keeps those there and the remote ones", doc.Intent{JobTitle: "account executive", Location: "London"}, []string{"8503792002"}},
		{"a country that an office is in", doc.Intent{JobTitle: "data scientist", Location: "United Kingdom"}, []string{"8636903002"}},
		{"nothing fits", doc.Intent{JobTitle: "python developer", Location: "sydney"}, nil},
		{"a short word counts where there is no other", doc.Intent{JobTitle: "AI"}, []string{"8556658002", "8638232002"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, _ := answered(t, h, task(tt.intent, 20*time.Second))
			require.Equal(t, doc.SourceOK, a.Status, a.Error)
			var ids []string
			for _, j := range a.Jobs {
				ids = append(ids, j.Identifier)
			}
			require.Equal(t, tt.want, ids)
		})
	}
}

func TestRecordedJobsAreMapped(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.on(jobsPath("amplitude"), gives(captured(t, "careerkit_greenhouse.json")))
	h := build(t, b.URL, map[string]string{"SOURCE_GREENHOUSE_BOARDS": "amplitude"}, nil)
	a, _ := answered(t, h, task(doc.Intent{JobTitle: "scientist"}, 20*time.Second))
	require.Len(t, a.Jobs, 1)
	j := a.Jobs[0]
	require.Equal(t, "Customer Data Scientist - Experimentation", j.Title)
	require.Equal(t, "Amplitude", j.HiringOrganization.Name)
	require.Equal(t, "London, UK", j.JobLocation.Text)
	require.Equal(t, "2026-07-16T15:55:32Z", j.DatePosted)
	require.Equal(t, "https://job-boards.greenhouse.io/amplitude/jobs/8636903002", j.URL)
	require.True(t, strings.HasPrefix(j.Description, "Amplitude is the leading AI analytics platform, helping over 4,700 customers"), j.Description[:80])
	require.NotContains(t, j.Description, "<")
	require.NotContains(t, j.Description, "&nbsp;")
	require.Contains(t, j.Description, "\n")
}
