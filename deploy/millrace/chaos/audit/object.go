package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"
)

// get reads an object whole.
func (c *Checker) get(ctx context.Context, r ref) ([]byte, error) {
	o, err := c.Store.GetObject(ctx, r.Bucket, r.Key, minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r, err)
	}
	defer func() { _ = o.Close() }() // it was only read
	body, err := io.ReadAll(o)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r, err)
	}
	return body, nil
}

// objects checks all objects of all ends.
func (k *checking) objects(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(k.Readers, 1))
	for id, e := range k.entries {
		for _, x := range k.ends[id] {
			g.Go(func() error {
				if x.record != nil {
					k.recorded(ctx, &e, x)
				} else if x.producerID == "" {
					k.letter(ctx, &e, x)
				}
				return ctx.Err()
			})
		}
	}
	return g.Wait()
}

// with returns e as the document whose bytes are body, nil where no such one was sent under
// its file_id. Of two that conflict the one that is taken first has the id: after a crash
// that need not be the one that was accepted first.
func (e *Entry) with(body []byte) *Entry {
	if bytes.Equal(body, e.Body) {
		return e
	}
	for _, c := range e.Copies {
		if e.Conflicts+e.Doubtful > 0 && bytes.Equal(body, c.Body) {
			other := *e
			other.Body = c.Body
			return &other
		}
	}
	return nil
}

// recorded checks the objects of a completed document.
func (k *checking) recorded(ctx context.Context, e *Entry, x *end) {
	raw := 0
	for _, r := range x.record.Objects {
		body, err := k.get(ctx, r)
		if err != nil {
			k.lose(Readable, e.ID, "%v", err)
			continue
		}
		if r.Bucket == bucketRaw {
			raw++
			own := e.Body
			if e = e.with(body); e == nil {
				k.lose(RawAsSent, x.file, "%s: %v", r, errNotEqual)
				return
			}
			if !bytes.Equal(own, e.Body) {
				k.otherWon(e.ID)
			}
		}
	}
	if raw == 0 {
		k.lose(RawAsSent, e.ID, "its record names no raw object")
	}
	k.count(len(x.record.Objects))
	if x.record.Result == nil {
		k.lose(Readable, e.ID, "its record names no result")
		return
	}
	body, err := k.get(ctx, *x.record.Result)
	if err != nil {
		k.lose(Readable, e.ID, "%v", err)
		return
	}
	if err := single(e, body); err != nil {
		k.double(NoDouble, e.ID, "%s: %v", *x.record.Result, err)
	}
}

// otherWon notes that of two messages that conflict the one with the other bytes has the id.
func (k *checking) otherWon(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.others[id] = true
}

func (k *checking) count(objects int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.report.Objects += objects
}

// letter checks that the raw object of a dead letter is there.
func (k *checking) letter(ctx context.Context, e *Entry, x *end) {
	if len(x.name) < len("20060102") {
		k.lose(RawAsSent, e.ID, "its dead letter has no name")
		return
	}
	date := x.name[:4] + "-" + x.name[4:6] + "-" + x.name[6:8]
	r := ref{Bucket: bucketRaw, Key: "by_date/" + date + "/" + x.name}
	body, err := k.get(ctx, r)
	if err != nil && e.End == Either {
		// It killed ingest, which came to store nothing: the dead letter alone has its bytes.
		body, err = k.lettered(ctx, x.seq)
	}
	switch {
	case err != nil:
		k.lose(RawAsSent, e.ID, "%v", err)
	case e.with(body) == nil:
		k.lose(RawAsSent, e.ID, "%s: %v", r, errNotEqual)
	}
}

// lettered returns the body of a dead letter.
func (c *Checker) lettered(ctx context.Context, seq uint64) ([]byte, error) {
	s, err := c.JS.Stream(ctx, streamDLQ)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", streamDLQ, err)
	}
	m, err := s.GetMsg(ctx, seq)
	if err != nil {
		return nil, fmt.Errorf("read message %d of %s: %w", seq, streamDLQ, err)
	}
	return m.Data, nil
}

// single checks that each job stands once in a result, and that none is missing.
func single(e *Entry, body []byte) error {
	var result struct {
		Jobs []struct {
			JobID string `json:"job_id"`
			Title string `json:"title"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(body, &result); err != nil {
		return fmt.Errorf("read the result: %w", err)
	}
	seen := map[string]bool{}
	for _, j := range result.Jobs {
		if seen["id "+j.JobID] || seen[j.Title] {
			return fmt.Errorf("%q stands twice in it", j.Title)
		}
		seen["id "+j.JobID], seen[j.Title] = true, true
		if !strings.Contains(string(e.Body), j.Title) && e.Task == "job_extraction" {
			return fmt.Errorf("%q is not of this document", j.Title)
		}
	}
	if e.Task == "job_extraction" && len(result.Jobs) == 0 {
		return errors.New("it has none of the document's jobs")
	}
	return nil
}

// place names a record.
func place(fileID string, seq uint64) string { return fmt.Sprintf("%s at message %d", fileID, seq) }

// archives checks that the days' archives, which were closed, hold each record once.
func (k *checking) archives(ctx context.Context) error {
	seen := map[string]string{}
	for o := range k.Store.ListObjects(ctx, bucketArchive, minio.ListObjectsOptions{Prefix: "daily/", Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("list the archive: %w", o.Err)
		}
		if !strings.HasSuffix(o.Key, ".jsonl.zst") {
			continue
		}
		body, err := k.get(ctx, ref{bucketArchive, o.Key})
		if err != nil {
			k.violate(Readable, o.Key, "%v", err)
			continue
		}
		lines, err := unpack(body)
		if err != nil {
			k.violate(Readable, o.Key, "%v", err)
			continue
		}
		for _, l := range lines {
			id := place(l.Record.Metadata.FileID, l.Seq)
			if before, twice := seen[id]; twice {
				k.double(NoDouble, l.Record.Metadata.FileID, "message %d stands in %s and in %s", l.Seq, before, o.Key)
			}
			seen[id] = o.Key
		}
	}
	k.report.Archived = len(seen)
	for id, ends := range k.ends {
		for _, e := range ends {
			if e.record != nil && seen[place(id, e.seq)] == "" {
				k.violate(Archived, id, "its record is message %d of %s, and in no archive", e.seq, streamCompleted)
			}
		}
	}
	return nil
}

// archived is what is read of a line of an archive.
type archived struct {
	Seq    uint64 `json:"seq"`
	Record struct {
		Metadata struct {
			FileID string `json:"file_id"`
		} `json:"metadata"`
	} `json:"record"`
}

// unpack reads a part of an archive.
func unpack(body []byte) ([]archived, error) {
	d, err := zstd.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read a part: %w", err)
	}
	defer d.Close()
	var all []archived
	dec := json.NewDecoder(d)
	for {
		var l archived
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read a part: %w", err)
		}
		all = append(all, l)
	}
}
