package letters

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseRate reads a rate such as 10/s, 90/m or 5, which is per second.
func ParseRate(s string) (float64, error) {
	number, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseFloat(number, 64)
	per, known := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || !known || math.IsNaN(n) || n <= 0 || n > maxRate {
		return 0, fmt.Errorf("rate %q is not of the form 10/s, 90/m or 500/h", s)
	}
	return n / per, nil
}

// maxRate is the highest rate that can be asked for; no broker takes as many.
const maxRate = 1e6

// ParseShare reads a share such as 0.1 or 10%.
func ParseShare(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(number, 64)
	if percent {
		n /= 100
	}
	if err != nil || math.IsNaN(n) || n < 0 || n > 1 {
		return 0, fmt.Errorf("share %q is not of the form 0.1 or 10%%", s)
	}
	return n, nil
}
