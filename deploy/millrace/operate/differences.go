package operate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/policy"
)

// Differences says field by field what a change of a policy changes.
func Differences[P policy.Policy[P]](from, to P) ([]string, error) {
	before, err := flatten(from)
	if err != nil {
		return nil, err
	}
	after, err := flatten(to)
	if err != nil {
		return nil, err
	}
	var out []string
	all := maps.Clone(before)
	maps.Copy(all, after)
	for _, field := range slices.Sorted(maps.Keys(all)) {
		if before[field] != after[field] {
			out = append(out, fmt.Sprintf("%s: %s -> %s", field, cmp.Or(before[field], "none"), cmp.Or(after[field], "none")))
		}
	}
	return out, nil
}

// flatten returns the values of a policy by their fields, such as retention.raw.
func flatten[P policy.Policy[P]](p P) (map[string]string, error) {
	text, err := codec.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write the %s policy: %w", p.Key(), err)
	}
	fields := map[string]string{}
	var walk func(prefix string, v codec.Value) error
	walk = func(prefix string, v codec.Value) error {
		if codec.KindOf(v) != '{' {
			fields[prefix] = string(v)
			return nil
		}
		var members map[string]codec.Value
		if err := codec.Unmarshal(v, &members); err != nil {
			return fmt.Errorf("read %s: %w", prefix, err)
		}
		for name, member := range members {
			if prefix != "" {
				name = prefix + "." + name
			}
			if err := walk(name, member); err != nil {
				return err
			}
		}
		return nil
	}
	return fields, walk("", text)
}
