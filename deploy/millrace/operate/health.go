package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/codec"
)

const (
	healthTimeout = 5 * time.Second
	// maxHealth is how much of an answer is read, in bytes.
	maxHealth = 64 << 10
)

// Healthy asks url and returns nil where the answer is 200, else an error with the reasons
// that were given.
func Healthy(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealth))
	return errors.Join(fmt.Errorf("%s answers %s%s", url, resp.Status, reasons(body)), err)
}

// reasons reads the reasons out of the answer of /readyz.
func reasons(body []byte) string {
	var answer struct {
		Reasons map[string]string `json:"reasons"`
	}
	if codec.Unmarshal(body, &answer) != nil || len(answer.Reasons) == 0 {
		return ""
	}
	var lines []string
	for what, why := range answer.Reasons {
		lines = append(lines, fmt.Sprintf("\n  %s: %s", what, why))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
