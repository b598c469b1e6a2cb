package operate

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/store"
)

func TestWhichDocumentsARefillSelects(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for id, day := range map[string]int{"a": 27, "b": 28, "c": 29} {
		o := original(id, id)
		o.CreatedAt = time.Date(2025, 1, day, 1, 2, 3, 0, time.UTC)
		if id == "c" {
			o.Provider, o.Task = "google", "intent_analysis"
		}
		o.Name = doc.FileName(o.CreatedAt, o.Task, o.Provider, "", id)
		s.keep(o, id)
	}
	foreign := store.Ref{Bucket: contract.BucketRaw, Key: contract.InboxPrefix + "x"}
	require.Empty(t, s.store.Put(t.Context(), store.Object{Ref: foreign}))
	tests := []struct {
		name string
		sel  Selection
		want string
	}{
		{"all", Selection{}, "a b c"},
		{"a date", Selection{Dates: []string{"2025-01-28"}}, "b"},
		{"two dates, one of them twice", Selection{Dates: []string{"2025-01-29", "2025-01-27", "2025-01-29"}}, "a c"},
		{"from a date on", Selection{Since: "2025-01-28"}, "b c"},
		{"up to a date", Selection{Until: "2025-01-28"}, "a b"},
		{"a task", Selection{Task: "intent_analysis"}, "c"},
		{"a provider", Selection{Provider: "openai"}, "a b"},
		{"a file_id", Selection{FileID: "b"}, "b"},
		{"a prefix of another view", Selection{Prefix: "by_provider/openai/"}, "a b"},
		{"a prefix and a date", Selection{Prefix: "by_provider/openai/", Dates: []string{"2025-01-28"}}, "b"},
		{"a date without documents", Selection{Dates: []string{"2024-01-28"}}, ""},
	}
	for _, views := range [][]contract.View{contract.Views(), {contract.ByProvider}} {
		for _, tt := range tests {
			require.NoError(t, tt.sel.Validate(), tt.name)
			var ids []string
			r := Refill{Bus: s.bus, Ledger: s.ledger, Store: s.store, DryRun: true}
			from := &RawObjects{Store: s.store, Views: views, Selection: tt.sel}
			require.NoError(t, r.Run(t.Context(), from, tt.sel, func(one Refilled) { ids = append(ids, one.FileID) }))
			slices.Sort(ids)
			require.Equal(t, tt.want, strings.Join(ids, " "), "%s of %v", tt.name, views)
		}
	}
	for info, err := range s.store.List(t.Context(), contract.BucketRaw, "by_date/") {
		require.NoError(t, err)
		require.NoError(t, s.store.Delete(t.Context(), info.Ref))
	}
	require.Len(t, s.refill(Refill{DryRun: true}, Selection{}), 3, "a view that is empty is not the one to read")
	require.Error(t, Selection{Dates: []string{"27.1.2025"}}.Validate())
	require.Error(t, Selection{Prefix: "_inbox/"}.Validate())
}

func TestAnObjectThatIsNoRawObjectIsReported(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, meta, value string
		want              string
	}{
		{"no file_id", contract.MetaFileID, "", `metadata file-id`},
		{"no date", contract.MetaCreatedAt, "yesterday", `metadata created-at`},
		{"no sum", contract.MetaSHA256, "ab", `metadata sha256`},
		{"another place", contract.MetaProvider, "google", `does not belong there`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			o := original("a", "{}")
			meta := maps.Clone(o.Meta())
			meta[tt.meta] = tt.value
			ref := store.Ref{Bucket: contract.BucketRaw, Key: "by_provider/openai/" + o.Name}
			require.Empty(t, s.store.Put(t.Context(), store.Object{Ref: ref, Body: []byte("{}"), Meta: meta}))
			for _, one := range s.refill(Refill{}, Selection{}) {
				require.Equal(t, RefillDamaged, one.Fate)
				require.Contains(t, one.Error, tt.want)
			}
			require.Empty(t, s.messages(contract.StreamRaw))
			require.Empty(t, s.refill(Refill{}, Selection{FileID: "b"}), "it is not the one that is asked for")
		})
	}
}
