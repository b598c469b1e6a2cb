package operate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/policy"
)

// Differences says field by field what a change of the storage policy changes.
func Differences(from, to policy.Storage) ([]string, error) {
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
func flatten(s policy.Storage) (map[string]string, error) {
	text, err := codec.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write the storage policy: %w", err)
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
