package topology

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Finding is one thing in the broker that is not as the plan says.
type Finding struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"` // of a consumer: stream/consumer
	// Missing says that the asset does not exist; Field is then empty.
	Missing bool  `json:"missing,omitempty"`
	Field   Field `json:"field,omitzero"`
	// Grave says that it can lose, repeat or strand documents.
	Grave bool `json:"grave"`
}

// String tells the finding in one line.
func (f Finding) String() string {
	if f.Missing {
		return fmt.Sprintf("%s %s does not exist", f.Kind, f.Name)
	}
	return fmt.Sprintf("%s %s: %s is %s, planned is %s", f.Kind, f.Name, f.Field.Name, f.Field.Have, f.Field.Want)
}

// Check compares what the broker has with what t says and returns the differences, none
// where all is as planned. It changes nothing.
func Check(ctx context.Context, js jetstream.JetStream, t Topology) ([]Finding, error) {
	changes, err := Apply(ctx, js, t, true)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, c := range changes {
		switch c.Action {
		case Created:
			found = append(found, Finding{Kind: c.Kind, Name: c.Name, Missing: true, Grave: true})
		case Updated:
			for _, f := range c.Fields {
				found = append(found, Finding{Kind: c.Kind, Name: c.Name, Field: f, Grave: f.Grave})
			}
		case Unchanged:
		}
	}
	return found, nil
}
