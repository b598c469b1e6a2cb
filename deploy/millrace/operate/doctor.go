package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/policy"
	"github.com/jobspy/millrace/shared/store"
	"github.com/jobspy/millrace/shared/topology"
)

// Verdict is how a check came out.
type Verdict string

// The verdicts.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // not proven, or not as it should be, but nothing is lost by it
	Fail Verdict = "fail" // documents can be lost, repeated or stranded
)

// Check is the outcome of one check.
type Check struct {
	Name    string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	Advice  string  `json:"advice,omitzero"` // what to do about it
}

const (
	// The oldest versions of the broker that can run the line, and that are known to run it
	// without losing consumers at an update.
	minBroker, goodBroker = "2.14.0", "2.15.2"
	// maxSkew is how far clocks may be apart before timestamps mislead people, and badSkew
	// before signatures of the store and deadlines of joins break.
	maxSkew, badSkew = 2 * time.Second, time.Minute
	// lowDisk and noDisk are free bytes.
	lowDisk, noDisk = 4 << 30, 512 << 20
	doctorTimeout   = 30 * time.Second
)

// ProbedStore is a store that can find out what it can do.
type ProbedStore interface {
	store.Store
	Probe(ctx context.Context) (store.Capabilities, error)
}

// Doctor checks a set-up. It leaves nothing behind.
type Doctor struct {
	Bus  func(ctx context.Context) (*bus.JetStream, error)
	S3   func(ctx context.Context) (ProbedStore, error)
	Plan topology.Topology
	// NATS says with which files the broker lets us in.
	NATS config.NATS
	// MonitorURL is the broker's monitoring address, such as http://127.0.0.1:8222, or those of
	// a cluster, separated by commas; empty leaves unproven what only it tells.
	MonitorURL string
	// Data is a folder whose disk is looked at; empty or missing means that none is local.
	Data string

	checks []Check
	names  store.Names // what the buckets are called in the store
}

// Run makes all checks and returns them in a fixed order.
func (d *Doctor) Run(ctx context.Context) []Check {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	d.checks = nil
	d.broker(ctx)
	d.objects(ctx)
	d.disk()
	return d.checks
}

func (d *Doctor) note(name string, v Verdict, advice, format string, args ...any) {
	d.checks = append(d.checks, Check{Name: name, Verdict: v, Detail: fmt.Sprintf(format, args...), Advice: advice})
}

func (d *Doctor) broker(ctx context.Context) {
	b, err := d.Bus(ctx)
	if err == nil {
		err = b.Ready(ctx)
	}
	if err != nil {
		d.note("broker", Fail, "start the broker, or set NATS_URL", "%v", err)
		d.credentials(nil)
		return
	}
	version := b.Conn().ConnectedServerVersion()
	switch {
	case older(version, minBroker):
		d.note("broker", Fail, "run nats-server "+goodBroker+" or newer", "version %s has no repeating schedules", version)
	case older(version, goodBroker):
		d.note("broker", Warn, "run nats-server "+goodBroker+" or newer", "version %s, tested is %s", version, goodBroker)
	default:
		d.note("broker", OK, "", "version %s at %s", version, b.Conn().ConnectedUrlRedacted())
	}
	d.sync(ctx)
	d.topology(ctx, b.JetStream())
	d.queues(ctx, b.JetStream())
	d.policy(ctx, b)
	d.credentials(b.Conn())
	d.brokerClock(ctx, b.JetStream())
}

// policy checks that the storage policy takes effect.
func (d *Doctor) policy(ctx context.Context, b *bus.JetStream) {
	kept, err := policy.Read(ctx, b, policy.Seed(nil))
	d.names = kept.Buckets
	switch {
	case err != nil:
		d.note("policy", Fail, "", "%v", err)
	case kept.Refused != nil:
		d.note("policy", Fail, "millrace config set storage FILE", "%v; the one before it stays", kept.Refused)
	case kept.Revision == 0:
		d.note("policy", Warn, planAdvice, "there is no storage policy, STORE_VIEWS counts")
	default:
		d.note("policy", OK, "", "storage, revision %d: %s; %s", kept.Revision, kept.Layout(), retention(kept.Retention))
	}
}

// older reports whether version a comes before b; what cannot be read counts as new.
func older(a, b string) bool {
	a, _, _ = strings.Cut(a, "-")
	for i, want := range strings.Split(b, ".") {
		parts := strings.Split(a, ".")
		if i >= len(parts) {
			return false
		}
		have, err := strconv.Atoi(parts[i])
		least, err2 := strconv.Atoi(want)
		if err != nil || err2 != nil {
			return false
		}
		if have != least {
			return have < least
		}
	}
	return false
}

const syncAdvice = "set jetstream { sync_interval: always } in the broker's configuration"

// sync proves, of each broker whose monitoring is known, that an acknowledged message is on disk.
func (d *Doctor) sync(ctx context.Context) {
	if d.MonitorURL == "" {
		d.note("sync", Warn, "give the broker's monitoring address as --monitor or NATS_MONITOR_URL",
			"not proven that an acknowledged document is on disk: only the broker's monitoring tells")
		return
	}
	for monitor := range strings.SplitSeq(d.MonitorURL, ",") {
		always, interval, err := ReadSync(ctx, monitor)
		switch {
		case err != nil:
			d.note("sync", Warn, "check --monitor or NATS_MONITOR_URL", "not proven that an acknowledged document is on disk: %v", err)
		case !always:
			d.note("sync", Fail, syncAdvice, "acknowledged documents are lost when the power fails: the broker at %s syncs every %s", monitor, interval)
		default:
			d.note("sync", OK, "", "sync_interval is always at %s: an acknowledged document is on disk", monitor)
		}
	}
}

func readSync(ctx context.Context, url string) (always bool, interval time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealth))
	if err != nil {
		return false, 0, err
	}
	var answer struct {
		Config struct {
			Always   bool  `json:"sync_always"`
			Interval int64 `json:"sync_interval"`
		} `json:"config"`
	}
	if resp.StatusCode != http.StatusOK {
		return false, 0, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	if err := codec.Unmarshal(body, &answer); err != nil {
		return false, 0, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return answer.Config.Always, time.Duration(answer.Config.Interval), nil
}

const planAdvice = "run millrace provision"

func (d *Doctor) topology(ctx context.Context, js jetstream.JetStream) {
	found, err := topology.Check(ctx, js, d.Plan)
	if err != nil {
		d.note("streams", Fail, planAdvice, "%v", err)
		return
	}
	for _, f := range found {
		v := Warn
		if f.Grave {
			v = Fail
		}
		d.note("streams", v, planAdvice, "%s", f)
	}
	if len(found) == 0 {
		d.note("streams", OK, "", "%d streams and %d key-value buckets with their consumers are as planned", len(d.Plan.Streams), len(d.Plan.Buckets))
	}
}

// brokerClock compares the broker's clock with ours.
func (d *Doctor) brokerClock(ctx context.Context, js jetstream.JetStream) {
	before := time.Now()
	s, err := js.Stream(ctx, contract.StreamDLQ)
	if err != nil {
		return // the check of the streams has said it
	}
	d.clock("broker clock", s.CachedInfo().TimeStamp, before, time.Now(), 0)
}

// clock judges a remote time that was taken between two of ours, and is given in steps of
// grain.
func (d *Doctor) clock(name string, remote, before, after time.Time, grain time.Duration) {
	skew := max(before.Sub(remote.Add(grain)), remote.Sub(after), 0)
	switch {
	case skew > badSkew:
		d.note(name, Fail, "run a time service on both machines", "%s apart from this machine's", skew.Round(time.Millisecond))
	case skew > maxSkew:
		d.note(name, Warn, "run a time service on both machines", "%s apart from this machine's", skew.Round(time.Millisecond))
	default:
		d.note(name, OK, "", "within %s of this machine's", maxSkew)
	}
}

// disk looks at the free space of the data folder.
func (d *Doctor) disk() {
	if d.Data == "" {
		return
	}
	if _, err := os.Stat(d.Data); err != nil {
		return // nothing is kept here
	}
	free, err := freeBytes(d.Data)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return
	case err != nil:
		d.note("disk", Warn, "", "read the free space of %s: %v", d.Data, err)
	case free < noDisk:
		d.note("disk", Fail, "make room", "%s has %d MiB left", d.Data, free>>20)
	case free < lowDisk:
		d.note("disk", Warn, "make room", "%s has %d MiB left", d.Data, free>>20)
	default:
		d.note("disk", OK, "", "%s has %d GiB left", d.Data, free>>30)
	}
}
