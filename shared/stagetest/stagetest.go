// Package stagetest runs the cores of stages on golden cases: one txtar file per case says
// what goes in and what must come out. Only tests import it.
//
// A case has these sections; only the input and one of the wanted ones must be there:
//
//	in.json    the envelope that goes in, decoded as the runner does it
//	in.raw     instead: a body that is no envelope yet (the last line break is not part of it)
//	headers    "Name: value" lines of the message
//	settings   "NAME=value" lines for the configuration
//	want.json  the outputs, as Render writes them
//	want.err   the verdict: kind, reason and text
//
// Lines before the first section say what the case is about. Every case is run twice, the
// second time on a fresh input, and must give the same bytes. `go test -update` writes what
// came out into the files.
package stagetest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/jobspy/millrace/shared/bus"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/stage"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Stored is when the broker has stored every input of a golden case.
var Stored = time.Date(2025, 1, 27, 14, 31, 0, 0, time.UTC)

// Now is what the clock of Deps always says: a moment after Stored.
var Now = Stored.Add(3 * time.Second)

// Seq is the stream sequence of every input.
const Seq = 7

// Deps returns what pure cores get: all views, a clock that stands at Now and a logger that
// writes nothing. There is no broker, store or ledger in it.
func Deps() stage.Deps {
	return stage.Deps{Clock: func() time.Time { return Now }, Log: zerolog.Nop()}
}

// Config reads a configuration from settings alone, never from the process's environment,
// and checks it where it can.
func Config[C any](tb testing.TB, settings map[string]string) C {
	tb.Helper()
	if settings == nil {
		settings = map[string]string{} // nil would mean the process's environment
	}
	c, err := env.ParseAsWithOptions[C](env.Options{Environment: settings})
	require.NoError(tb, err)
	if v, ok := any(c).(interface{ Validate() error }); ok {
		require.NoError(tb, v.Validate())
	}
	return c
}

// Build makes the handler of one case from its settings.
type Build func(tb testing.TB, settings map[string]string) stage.Handler

// Run runs every testdata/*.txtar of the test's package, each as a parallel subtest.
func Run(t *testing.T, build Build) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "testdata holds no golden case")
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			runCase(t, file, build)
		})
	}
}

func runCase(t *testing.T, file string, build Build) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	c, err := parse(data)
	require.NoError(t, err)

	h := build(t, c.settings)
	name, got := c.handle(t, h)
	_, again := c.handle(t, h)
	require.Equal(t, string(got), string(again), "the same input gave other bytes the second time")

	if *update {
		require.NoError(t, os.WriteFile(file, c.with(name, got), 0o600))
		return
	}
	want, ok := c.section(name)
	require.True(t, ok, "no %s in the case, got:\n%s", name, got)
	require.Equal(t, string(want), string(got))
}

// handle gives the input to h and returns the section that tells the result.
func (c *golden) handle(t *testing.T, h stage.Handler) (section string, text []byte) {
	t.Helper()
	in, err := c.input()
	require.NoError(t, err)
	before := bytes.Clone(in.Body)
	outs, err := h.Handle(t.Context(), in)
	require.Equal(t, string(before), string(in.Body), "the handler changed the body it was given")
	if err != nil {
		require.Empty(t, outs, "outputs beside an error")
		return wantErr, renderError(err)
	}
	text, err = Render(outs)
	require.NoError(t, err)
	return wantJSON, text
}

// Input makes the document that the runner would make of an envelope's body and headers.
// The lane is normal and the name the usual one unless the headers say otherwise.
func Input(body []byte, headers map[string]string) (*doc.Document, error) {
	e, err := doc.Decode(body)
	if err != nil {
		return nil, err
	}
	d := Raw(body, headers)
	d.Envelope = e
	m := &e.Metadata
	if d.Name == "" {
		d.Name = doc.FileName(m.CreatedAt, m.TaskType, m.Provider, m.SessionID, m.FileID)
	}
	return d, nil
}

// Raw makes the document that the runner would make of a message that holds no envelope.
func Raw(body []byte, headers map[string]string) *doc.Document {
	d := doc.FromMessage(&bus.Stored{
		Stream: "LLM_TEST", Seq: Seq, Time: Stored, Subject: "llm.test", Header: bus.Header(headers), Body: body,
	})
	if d.Lane == "" {
		d.Lane = contract.Normal
	}
	return d
}

// lines reads "key<sep>value" lines; blank ones are left out.
func lines(text []byte, sep string) (map[string]string, error) {
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, sep)
		if !ok {
			return nil, fmt.Errorf("line %q has no %q", line, sep)
		}
		out[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return out, nil
}

// golden is one case.
type golden struct {
	archive  *txtar.Archive
	settings map[string]string
	headers  map[string]string
}

// The names of the sections.
const (
	inJSON      = "in.json"
	inRaw       = "in.raw"
	inHeaders   = "headers"
	inSettings  = "settings"
	wantJSON    = "want.json"
	wantErr     = "want.err"
	lineBreak   = "\n"
	headerSep   = ":"
	settingsSep = "="
)

func parse(data []byte) (*golden, error) {
	c := &golden{archive: txtar.Parse(data)}
	known := map[string]bool{inJSON: true, inRaw: true, inHeaders: true, inSettings: true, wantJSON: true, wantErr: true}
	for _, f := range c.archive.Files {
		if !known[f.Name] {
			return nil, fmt.Errorf("section %q is not known", f.Name)
		}
	}
	var err error
	text, _ := c.section(inSettings)
	if c.settings, err = lines(text, settingsSep); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	text, _ = c.section(inHeaders)
	if c.headers, err = lines(text, headerSep); err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	return c, nil
}

func (c *golden) section(name string) ([]byte, bool) {
	for _, f := range c.archive.Files {
		if f.Name == name {
			return f.Data, true
		}
	}
	return nil, false
}

func (c *golden) input() (*doc.Document, error) {
	if body, ok := c.section(inRaw); ok {
		return Raw(bytes.TrimSuffix(bytes.Clone(body), []byte(lineBreak)), c.headers), nil
	}
	body, ok := c.section(inJSON)
	if !ok {
		return nil, fmt.Errorf("neither %s nor %s in the case", inJSON, inRaw)
	}
	return Input(bytes.Clone(body), c.headers)
}

// with returns the case with text as its one wanted section.
func (c *golden) with(name string, text []byte) []byte {
	a := &txtar.Archive{Comment: c.archive.Comment}
	for _, f := range c.archive.Files {
		if f.Name != wantJSON && f.Name != wantErr {
			a.Files = append(a.Files, f)
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: text})
	return txtar.Format(a)
}
