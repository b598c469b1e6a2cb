package policy_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
)

func TestTheSeedOfAnswersHasEveryField(t *testing.T) {
	t.Parallel()
	seed := policy.SeedLLM()
	parsed, err := policy.LLM{}.Parse(config.LLM())
	require.NoError(t, err)
	require.Equal(t, seed, parsed, "nothing is left to a default")
	require.False(t, seed.Reask.Enabled, "nobody answers yet")
	text, err := seed.Text()
	require.NoError(t, err)
	again, err := policy.LLM{}.Parse(text)
	require.NoError(t, err)
	require.Equal(t, seed, again, "what is shown can be set")
}

func TestATaskTypeDiffersInWhatItNames(t *testing.T) {
	t.Parallel()
	p, err := policy.SeedLLM().Parse([]byte(`{"default":{"partial":"review"},
		"tasks":{"job_extraction":{"repairs":[],"review_below":0.5}},"reask":{"enabled":true}}`))
	require.NoError(t, err)
	jobs := p.Of(contract.JobExtraction)
	require.Empty(t, jobs.Repairs)
	require.InDelta(t, 0.5, *jobs.Review, 0)
	require.Equal(t, policy.VerdictReview, jobs.Partial)
	require.Equal(t, policy.VerdictDeadLetter, jobs.Broken)
	require.Equal(t, []string{"lossless", "completion"}, p.Of(contract.IntentAnalysis).Repairs)
	require.Equal(t, policy.Reask{Enabled: true, Attempts: 2, Tokens: 100000}, p.Reask)
}

func TestABadPolicyOnAnswersIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ value, want string }{
		"no JSON cannot be accepted": {`{"default":{"broken":"accept"}}`, "/default/broken: value must be one of 'reask'"},
		"an unknown class":           {`{"default":{"repairs":["magic"]}}`, "/default/repairs/0: value must be one of"},
		"an unknown task type":       {`{"tasks":{"poems":{}}}`, "/tasks: additional properties 'poems'"},
		"three questions":            {`{"reask":{"attempts":3}}`, "/reask/attempts: maximum"},
		"reviews that never come":    {`{"default":{"reask_below":0.9}}`, "/tasks/intent_analysis: reask_below is over review_below"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.SeedLLM().Parse([]byte(tt.value))
			refused, ok := errors.AsType[*policy.RefusedError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, "llm", refused.Key)
			require.Contains(t, refused.Violations[0].String(), tt.want)
		})
	}
}
