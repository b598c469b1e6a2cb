package letters

import (
	"fmt"

	"github.com/jobspy/millrace/shared/codec"
)

// maxPatchDepth bounds how deeply a patch may be nested.
const maxPatchDepth = codec.DefaultDepth

// MergePatch applies a JSON merge patch (RFC 7396) to a JSON document. What the patch does
// not name keeps its bytes.
func MergePatch(document, patch []byte) ([]byte, error) {
	if err := codec.Check(patch, maxPatchDepth); err != nil {
		return nil, fmt.Errorf("read the patch: %w", err)
	}
	var v codec.Value
	if err := codec.Unmarshal(document, &v); err != nil {
		return nil, fmt.Errorf("the body is not JSON, so it cannot be patched: %w", err)
	}
	out, err := merge(v, patch)
	if err != nil {
		return nil, fmt.Errorf("apply the patch: %w", err)
	}
	return out, nil
}

// merge follows the algorithm of the RFC's section 2. The depth is that of the patch, which
// was checked.
func merge(target, patch codec.Value) (codec.Value, error) {
	if codec.KindOf(patch) != '{' {
		return patch, nil
	}
	members, changes := map[string]codec.Value{}, map[string]codec.Value{}
	if len(target) > 0 && codec.KindOf(target) == '{' {
		if err := codec.Unmarshal(target, &members); err != nil {
			return nil, err
		}
	}
	if err := codec.Unmarshal(patch, &changes); err != nil {
		return nil, err
	}
	for name, change := range changes {
		if codec.KindOf(change) == 'n' {
			delete(members, name)
			continue
		}
		merged, err := merge(members[name], change)
		if err != nil {
			return nil, err
		}
		members[name] = merged
	}
	return codec.Marshal(members)
}
