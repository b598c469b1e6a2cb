package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/jobspy/millrace/deploy/millrace/bench"
	"github.com/jobspy/millrace/deploy/millrace/operate"
	"github.com/jobspy/millrace/deploy/millrace/up"
	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/stage"
	"github.com/jobspy/millrace/shared/store"
)

// anyAddr is any free port of the loopback interface.
const anyAddr = "127.0.0.1:0"

// target opens what the flags name, or starts it, and calls do with it.
func (c *benchCmd) target(ctx context.Context, g *globals, do func(context.Context, bench.Target) error) error {
	if c.Nats != "" {
		return c.running(ctx, g, do)
	}
	return c.own(ctx, g, do)
}

// running measures a line that runs already.
func (c *benchCmd) running(ctx context.Context, g *globals, do func(context.Context, bench.Target) error) error {
	conn := connection{Nats: c.Nats, S3: c.S3, Data: c.Data}
	if err := conn.AfterApply(g); err != nil {
		return err
	}
	b, err := g.bus(ctx)
	if err != nil {
		return err
	}
	s, err := g.store(ctx)
	if err != nil {
		return err
	}
	t := bench.Target{Bus: b, Producer: b, Objects: s, PIDs: c.PIDs, Host: hostOf(ctx, b, g.env["NATS_MONITOR_URL"])}
	if err := learn(ctx, s, g.common.S3, &t); err != nil {
		return err
	}
	w := store.NewWriter(s, store.WriterSettings{})
	t.Writer = w
	return errors.Join(do(ctx, t), w.Close(context.WithoutCancel(ctx)))
}

// own measures a line that is started for it, in this process.
func (c *benchCmd) own(ctx context.Context, g *globals, do func(context.Context, bench.Target) error) (err error) {
	u := up.Config{
		Dir: c.Data, NATSAddr: anyAddr, S3Addr: anyAddr, HTTPAddr: anyAddr, Vars: g.env,
		Logs: g.stderr, Level: zerolog.WarnLevel, Console: zerolog.WarnLevel,
	}
	common, err := config.Parse[config.Common](g.env)
	if err != nil {
		return usagef("the settings are wrong: %w", err)
	}
	if c.S3 != "" {
		common.S3.Endpoint = c.S3
		if common.S3.AccessKey == "" || common.S3.SecretKey == "" {
			return usagef("object store %s: S3_ACCESS_KEY and S3_SECRET_KEY are not set", c.S3)
		}
		set := stage.S3Settings(common, nil)
		u.Store = &set
	}
	if u.Dir == "" {
		if u.Dir, err = os.MkdirTemp("", "millrace-bench-"); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(u.Dir)) }()
	}
	defer stayLean()() // as "millrace up" does
	return up.Run(ctx, u, func(ctx context.Context, i *up.Instance) error {
		producer, err := bus.Connect(ctx, bus.Settings{URL: "nats://" + i.NATSAddr, Name: "millrace-bench", Log: zerolog.Nop()})
		if err != nil {
			return err
		}
		t := bench.Target{
			Bus: i.Bus, Producer: producer, Objects: i.Objects, Writer: i.Store, Embedded: u.Store == nil,
			PIDs: append(c.PIDs, os.Getpid()), Host: hostOf(ctx, producer, "http://"+i.HTTPAddr),
		}
		t.Host.Store = "embedded, in process"
		if s, ok := i.Objects.(prober); ok {
			err = learn(ctx, s, common.S3, &t)
		}
		if err == nil {
			err = do(ctx, t)
		}
		if err = errors.Join(err, producer.Close()); err != nil {
			return err
		}
		return up.ErrEnough
	})
}

// hostOf says what is known of the machine and the broker.
func hostOf(ctx context.Context, b *bus.JetStream, monitor string) bench.Host {
	h := bench.ThisHost()
	h.Broker = "nats-server " + b.Conn().ConnectedServerVersion()
	h.Sync = "sync not known (NATS_MONITOR_URL names no monitoring)"
	if monitor == "" {
		return h
	}
	first, _, _ := strings.Cut(monitor, ",") // the brokers of a cluster share their settings
	always, every, err := operate.ReadSync(ctx, first)
	switch {
	case err != nil:
		h.Sync = "sync not known: " + err.Error()
	case always:
		h.Sync = "sync always"
	default:
		h.Sync = "NOT DURABLE: sync every " + every.String()
	}
	return h
}

// prober is a store that finds out what it can do.
type prober interface {
	Probe(ctx context.Context) (store.Capabilities, error)
}

// learn finds out what a store can do.
func learn(ctx context.Context, s prober, at config.S3, t *bench.Target) error {
	can, err := s.Probe(ctx)
	if err != nil {
		return err
	}
	t.Batched = can.BatchedPut
	t.Host.Store = serverName(ctx, at)
	if can.BatchedPut {
		t.Host.Store += ", takes batches"
	}
	return nil
}

// nameTimeout bounds the question for the name of a store.
const nameTimeout = 5 * time.Second

// serverName returns what a store calls itself.
func serverName(ctx context.Context, at config.S3) string {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	scheme, name := "http://", "S3"
	if at.Secure {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+at.Endpoint+"/", nil)
	if err != nil {
		return name
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return name
	}
	defer func() { _ = answer.Body.Close() }() // only the headers count
	if n := answer.Header.Get("Server"); n != "" {
		return n
	}
	return name
}
