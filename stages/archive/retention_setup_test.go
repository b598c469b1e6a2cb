package archive

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/stagetest"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
	"github.com/jobspy/millrace/shared/volume"
)

// line is a bundle with all streams and a storage policy that a test may change. Nothing is
// over its time ever, unless the test says so.
type line struct {
	*bundle
	storage policy.Storage
}

// onLine runs a test in a bubble.
func onLine(t *testing.T, test func(*testing.T, *line)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &line{bundle: setup(t), storage: policy.Seed(nil)}
		require.NoError(t, l.bus.Close())
		plan := topology.Plan(topology.Options{})
		l.bus = bus.NewMemory(plan.Streams, plan.Buckets)
		l.storage.Retention.Inbox, l.storage.Retention.Claims = policy.Keep, policy.Keep
		test(t, l)
	})
}

func (l *line) deps() stage.Deps {
	d := l.bundle.deps()
	d.Policy = func() policy.Storage { return l.storage }
	return d
}

// tick runs the timer once.
func (l *line) tick() error {
	_, err := l.stage(nil, func(d *stage.Deps) { d.Policy = l.deps().Policy }).Handle(l.t.Context(), tick())
	return err
}

// expire removes by hand.
func (l *line) expire(o ExpireOptions) []Expired {
	l.t.Helper()
	report, err := Expire(l.t.Context(), stagetest.Config[Config](l.t, nil), l.deps(), o)
	require.NoError(l.t, err)
	return report
}

// publish publishes a message about a document.
func (l *line) publish(subject string, h bus.Header) {
	l.t.Helper()
	_, err := l.bus.Publish(l.t.Context(), bus.Message{Subject: subject, Header: h})
	require.NoError(l.t, err)
}

// keys returns every object but those of the archive, as bucket/key.
func (l *line) keys() []string {
	l.t.Helper()
	var all []string
	for _, b := range contract.Buckets() {
		if b == contract.BucketArchive {
			continue
		}
		for info, err := range l.objects.List(l.t.Context(), b, "") {
			require.NoError(l.t, err)
			all = append(all, info.String())
		}
	}
	return all
}

// left returns which objects of a document are there.
func (l *line) left(fileID string) []string {
	l.t.Helper()
	return slices.DeleteFunc(l.keys(), func(k string) bool { return !strings.HasSuffix(k, "/"+fileID+".json") })
}

func refs(d *doc.Document, c contract.Class) []store.Ref {
	var all []store.Ref
	for _, o := range d.Views(c, nil) {
		all = append(all, o.Ref)
	}
	return all
}

// end publishes the record of a document whose objects are there.
func (b *bundle) end(in *doc.Document) {
	b.t.Helper()
	outs, err := b.stage(nil, nil).Handle(b.t.Context(), in)
	require.NoError(b.t, err)
	_, err = b.bus.Publish(b.t.Context(), bus.Message{
		Subject: outs[0].Subject, Body: outs[0].Body, Header: in.Headers(contract.Archive),
	})
	require.NoError(b.t, err)
}

// keep returns those of keys that begin with a prefix.
func keep(keys []string, prefix string) []string {
	var some []string
	for _, k := range keys {
		if strings.HasPrefix(k, prefix) {
			some = append(some, k)
		}
	}
	return some
}

// downgrade makes a volume of one document one of version 1, which has no metadata.
func (l *line) downgrade(d *volume.Document) {
	l.t.Helper()
	text := fmt.Appendf(nil, `{"seq":%d,"completed_at":"2000-01-01T00:00:00Z","record":%s,"raw":%q}`+"\n", d.Seq, d.Record, d.Objects[0].Body)
	// One zstd frame whose size is told in four bytes, with one block that is not compressed.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(text)))
	block := len(text)<<3 | 1
	frame = append(frame, byte(block), byte(block>>8), byte(block>>16))
	frame = append(frame, text...)
	manifest := fmt.Appendf(nil, `{"date":"2000-01-01","documents":1,"parts":[
		{"key":"daily/2000-01-01/part-1.jsonl.zst","documents":1,"first_seq":%d,"last_seq":%d,"sha256":%q,"bytes":%d}]}`,
		d.Seq, d.Seq, doc.Sum(frame), len(frame))
	require.Nil(l.t, l.objects.Put(l.t.Context(),
		store.Object{Ref: store.Ref{Bucket: "llm-archive", Key: "daily/2000-01-01/part-1.jsonl.zst"}, Body: frame},
		store.Object{Ref: store.Ref{Bucket: "llm-archive", Key: "daily/2000-01-01/manifest.json"}, Body: manifest}))
}
