package operate

import (
	"context"
	"strings"
	"time"
)

// ReadSync asks the broker's monitoring, such as http://127.0.0.1:8222, whether each message
// is synced to disk before it is acknowledged, and how often messages are where not.
func ReadSync(ctx context.Context, monitor string) (always bool, interval time.Duration, err error) {
	return readSync(ctx, strings.TrimRight(strings.TrimSpace(monitor), "/")+"/jsz?config=true")
}
