package topology

import (
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
)

// history plans the streams that tell what happened: they drop their oldest messages when
// they are full, except for the audit, which refuses.
func (p planner) history() []bus.StreamConfig {
	advisory := bus.StreamConfig{
		Name:        contract.StreamAdvisory,
		Description: "messages that were delivered too often",
		Subjects:    []string{contract.MaxDeliveriesAdvisory + ".>"},
		MaxBytes:    p.part(partAdvisory),
		MaxAge:      advisoryAge,
		Duplicates:  p.Duplicates,
		Metadata:    metadata("advisories", ""),
	}
	for _, s := range contract.Stages() {
		c := p.consumer(s, "", "messages of this stage that were delivered too often",
			contract.MaxDeliveriesAdvisory+"."+contract.StageStream(s)+".*",
			contract.MaxDeliveriesAdvisory+"."+contract.StreamRetry+"."+contract.DueConsumer(s))
		c.Name = contract.AdvisoryConsumer(s)
		advisory.Consumers = append(advisory.Consumers, c)
	}
	return []bus.StreamConfig{
		{
			Name:        contract.StreamCompleted,
			Description: "terminal records",
			Subjects:    []string{contract.RootCompleted + ".>"},
			Batches:     true,
			MaxBytes:    p.part(partCompleted),
			MaxAge:      completedAge,
			Duplicates:  p.Duplicates,
			RePublish:   timeline("completed"),
			Metadata:    metadata("records", ""),
		},
		{
			Name:         contract.StreamTimeline,
			Description:  "what happened when: headers only; nothing correct depends on it",
			Subjects:     []string{contract.RootTimeline + ".>"},
			MaxBytes:     p.part(partTimeline),
			MaxAge:       timelineAge,
			Duplicates:   min(p.Duplicates, timelineDuplicates),
			AsyncPersist: p.Replicas == 1, // the broker has it for one replica only
			Metadata:     metadata("timeline", ""),
		},
		{
			Name:        contract.StreamAudit,
			Description: "who did what",
			Subjects:    []string{contract.RootAudit + ".>"},
			DiscardNew:  true,
			MaxBytes:    p.part(partAudit),
			Duplicates:  p.Duplicates,
			DenyDelete:  true,
			DenyPurge:   true,
			Metadata:    metadata("audit", ""),
		},
		advisory,
	}
}

// people plans the streams that callers, reviewers and model clients read.
func (p planner) people() []bus.StreamConfig {
	return []bus.StreamConfig{
		{
			Name:              contract.StreamResult,
			Description:       "real-time answers",
			Subjects:          []string{contract.RootResult + ".>"},
			InMemory:          true,
			MaxBytes:          p.Memory,
			MaxAge:            p.ResultAge,
			MaxMsgsPerSubject: 1,
			Duplicates:        min(p.Duplicates, p.ResultAge),
			MsgTTL:            true,
			Metadata:          metadata("answers", ""),
		},
		{
			Name:        contract.StreamReview,
			Description: "documents that people should look at",
			Subjects:    []string{contract.RootReview + ".>"},
			MaxBytes:    p.part(partReview),
			Duplicates:  p.Duplicates,
			Metadata:    metadata("review", ""),
		},
		{
			Name:        contract.StreamReask,
			Description: "requests to ask the model again",
			Subjects:    []string{contract.RootReask + ".>"},
			WorkQueue:   true,
			DiscardNew:  true,
			MaxBytes:    p.part(partReask),
			Duplicates:  p.Duplicates,
			Metadata:    metadata("reask", ""),
		},
	}
}

func (p planner) buckets() []bus.KVConfig {
	return []bus.KVConfig{
		{
			Name: contract.KVConfig, Description: "configuration that may change while it runs",
			MaxBytes: p.part(partConfig), Replicas: p.Replicas, Metadata: metadata("configuration", ""),
		},
		{
			Name: contract.KVLedger, Description: "identity and terminal state of documents",
			MaxBytes: p.part(partLedger), MarkerTTL: markerAge, Replicas: p.Replicas, Metadata: metadata("ledger", ""),
		},
		{
			Name: contract.KVCache, Description: "answers of sources",
			MaxBytes: p.part(partCache), MarkerTTL: markerAge, Replicas: p.Replicas, Metadata: metadata("cache", ""),
		},
		{
			Name: contract.KVJoin, Description: "answers that wait for the others of their document",
			MaxBytes: p.part(partJoin), MarkerTTL: markerAge, Replicas: p.Replicas, Metadata: metadata("join", ""),
		},
	}
}

func (p planner) timers() []Timer {
	return []Timer{{
		Subject: contract.CronSubject(contract.CronArchive),
		Target:  contract.DueSubject(contract.Archive, contract.Low),
		Every:   p.ArchiveEvery,
		Header:  bus.Header{contract.HeaderTimer: contract.CronArchive, contract.HeaderLane: string(contract.Low)},
		Body:    []byte("{}"),
	}}
}
