package operate

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// versioned is a store whose buckets keep versions.
type versioned struct {
	*store.Memory
	have map[string]store.Versions
}

func (v versioned) Versions(_ context.Context, bucket string) (store.Versions, error) {
	return v.have[bucket], nil
}

func (versioned) Erase(context.Context, string, string) error { return nil }

func TestTheDoctorSaysWhichBucketsKeepVersions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		have   map[string]store.Versions
		want   Verdict
		detail string
	}{
		{"none", nil, OK, "no bucket keeps older versions of objects"},
		{
			"one, until a rule removes them",
			map[string]store.Versions{contract.BucketRaw: {Kept: true, Expire: true}},
			OK,
			"acme-raw keep older versions until their lifecycle rules remove them",
		},
		{
			"two, one of them for ever",
			map[string]store.Versions{contract.BucketRaw: {Kept: true}, contract.BucketJobs: {Kept: true, Expire: true}},
			Warn,
			"acme-raw keep all older versions for ever: what retention removes frees no room",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := Doctor{names: store.Names{contract.BucketRaw: "acme-raw"}}
			d.versions(t.Context(), versioned{store.NewMemory(nil), tt.have})
			require.Equal(t, tt.want, d.checks[0].Verdict)
			require.Equal(t, tt.detail, d.checks[0].Detail)
		})
	}
}
