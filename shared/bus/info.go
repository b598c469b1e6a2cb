package bus

import (
	"context"
	"fmt"
)

// streamInfo is what this package reads of the broker's description of a stream.
type streamInfo struct {
	Config struct {
		Replicas  int   `json:"num_replicas"`
		MsgTTL    bool  `json:"allow_msg_ttl"`
		MarkerTTL int64 `json:"subject_delete_marker_ttl"` // nanoseconds
	} `json:"config"`
	State struct {
		Messages uint64 `json:"messages"`
		Bytes    uint64 `json:"bytes"`
		FirstSeq uint64 `json:"first_seq"`
		LastSeq  uint64 `json:"last_seq"`
	} `json:"state"`
}

// consumerInfo is what this package reads of the broker's description of a consumer.
type consumerInfo struct {
	Name   string `json:"name"`
	Config struct {
		AckWait int64 `json:"ack_wait"` // nanoseconds
	} `json:"config"`
	AckPending  int    `json:"num_ack_pending"`
	Redelivered int    `json:"num_redelivered"`
	Pending     uint64 `json:"num_pending"`
}

func (j *JetStream) streamInfo(ctx context.Context, stream string) (streamInfo, error) {
	var info streamInfo
	err := j.api(ctx, "STREAM.INFO."+stream, nil, &info)
	return info, err
}

func (j *JetStream) consumerInfo(ctx context.Context, stream, consumer string) (consumerInfo, error) {
	var info consumerInfo
	err := j.api(ctx, "CONSUMER.INFO."+stream+"."+consumer, nil, &info)
	return info, err
}

// Info implements Bus.
func (j *JetStream) Info(ctx context.Context, stream string) (Info, error) {
	s, err := j.streamInfo(ctx, stream)
	if err != nil {
		return Info{}, fmt.Errorf("read state of %q: %w", stream, err)
	}
	out := Info{Messages: s.State.Messages, Bytes: s.State.Bytes, FirstSeq: s.State.FirstSeq, LastSeq: s.State.LastSeq}
	for {
		var page struct {
			Total     int            `json:"total"`
			Consumers []consumerInfo `json:"consumers"`
		}
		req := struct {
			Offset int `json:"offset"`
		}{len(out.Consumers)}
		if err := j.api(ctx, "CONSUMER.LIST."+stream, req, &page); err != nil {
			return Info{}, fmt.Errorf("list consumers of %q: %w", stream, err)
		}
		for _, c := range page.Consumers {
			out.Consumers = append(out.Consumers, ConsumerInfo{
				Name: c.Name, Pending: c.Pending, AckPending: c.AckPending, Redelivered: c.Redelivered,
			})
		}
		if len(page.Consumers) == 0 || len(out.Consumers) >= page.Total {
			return out, nil
		}
	}
}
