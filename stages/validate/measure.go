package validate

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// maxNumberBytes is the longest number that is taken, in bytes. Schema checks compute with
	// exact fractions, which gets slow for longer ones; no real document comes near.
	maxNumberBytes = 512
	// maxExponent is the largest power of ten in a number, either way, for the same reason.
	maxExponent = 9999
	// maxBrief is how much of an untrusted name an error repeats, in bytes.
	maxBrief = 64
)

// measure counts the values in a JSON text that codec.Check has accepted, with members and
// items of all depths, and refuses numbers that cannot be computed with. It allocates nothing.
func measure(text []byte) (values int, err error) {
	values = 1
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			i = afterString(text, i)
		case c == '-' || c >= '0' && c <= '9':
			end := afterNumber(text, i)
			if err := checkNumber(text[i:end]); err != nil {
				return 0, fmt.Errorf("at byte %d: %w", i, err)
			}
			i = end
		default:
			if c == ',' || c == '[' || c == '{' {
				values++
			}
			i++
		}
	}
	return values, nil
}

// afterString returns the index behind the string that begins at i.
func afterString(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

func afterNumber(text []byte, i int) int {
	for i < len(text) && strings.IndexByte("+-.eE0123456789", text[i]) >= 0 {
		i++
	}
	return i
}

func checkNumber(number []byte) error {
	if len(number) > maxNumberBytes {
		return fmt.Errorf("a number of %d bytes, more than %d", len(number), maxNumberBytes)
	}
	_, exponent, found := strings.Cut(strings.ToLower(string(number)), "e")
	if !found {
		return nil
	}
	n, err := strconv.Atoi(exponent)
	if err != nil || n > maxExponent || n < -maxExponent {
		return fmt.Errorf("the number %s is beyond 1e±%d", brief(string(number)), maxExponent)
	}
	return nil
}

// brief quotes s for an error, cut to maxBrief bytes.
func brief(s string) string {
	if len(s) > maxBrief {
		return strconv.QuoteToASCII(s[:maxBrief]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
