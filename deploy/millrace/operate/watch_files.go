package operate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/jobspy/millrace/shared/doc"
)

// folders are the folders below the watched one.
var folders = []State{Pending, Processing, Completed, Failed}

// sighting is how a file looked when it was last seen changed.
type sighting struct {
	size     int64
	modified time.Time
	since    time.Time
}

// watchedFile is a file on its way.
type watchedFile struct {
	name  string // in its folder
	id    string // file_id; of a bad one the id that Llm-File-Id would have
	bad   bool   // the document's own file_id is no valid one
	sha   string // of its bytes
	since time.Time
	asked time.Time // when a bad one was last looked for
}

func (w *Watcher) path(s State, name string) string { return filepath.Join(w.Dir, string(s), name) }

// names lists the documents of a folder below the watched one, or of itself.
func (w *Watcher) names(folder string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(w.Dir, folder))
	if err != nil {
		return nil, fmt.Errorf("read the folder: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// claim moves the files that are written into pending.
func (w *Watcher) claim() error {
	names, err := w.names("")
	if err != nil {
		return err
	}
	there := make(map[string]sighting, len(names))
	for _, name := range names {
		from := filepath.Join(w.Dir, name)
		info, err := os.Lstat(from)
		if err != nil {
			continue // gone again
		}
		seen, steady := w.look(name, info)
		if !steady {
			there[name] = seen
			continue
		}
		to := w.free(name)
		if err := os.Rename(from, w.path(Pending, to)); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("take %s: %w", name, err)
			}
			continue
		}
		f, _, err := w.load(Pending, to)
		if err != nil {
			f = &watchedFile{name: to}
			w.pending[to] = f
			w.move(f, Pending, Failed, Event{Error: err.Error()})
			continue
		}
		w.pending[to] = f
		w.report(f, Event{State: Pending})
	}
	w.fresh = there
	return nil
}

// look says whether a file is written: it was last changed long enough ago, or has not
// changed for as long while we looked, whatever its clock says.
func (w *Watcher) look(name string, info fs.FileInfo) (sighting, bool) {
	now := w.Now()
	s := sighting{size: info.Size(), modified: info.ModTime(), since: now}
	if old, ok := w.fresh[name]; ok && old.size == s.size && old.modified.Equal(s.modified) {
		s.since = old.since
	}
	return s, now.Sub(s.since) >= steadyFor || now.Sub(s.modified) >= steadyFor
}

var suffixed = regexp.MustCompile(`^(.+)~[0-9]+\.json$`)

// originalName undoes free.
func originalName(name string) string {
	if m := suffixed.FindStringSubmatch(name); m != nil {
		return m[1] + ".json"
	}
	return name
}

// free returns the name under which a file is kept: its own, or with a number where another
// file has that name already.
func (w *Watcher) free(name string) string {
	stem := strings.TrimSuffix(name, ".json")
	for n := 2; w.taken(name); n++ {
		name = fmt.Sprintf("%s~%d.json", stem, n)
	}
	return name
}

func (w *Watcher) taken(name string) bool {
	for _, s := range folders {
		if _, err := os.Lstat(w.path(s, name)); err == nil {
			return true
		}
	}
	return false
}

// load reads a file and finds out its identity.
func (w *Watcher) load(s State, name string) (*watchedFile, []byte, error) {
	in, err := os.Open(w.path(s, name))
	if err != nil {
		return nil, nil, plain(err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, nil, plain(err)
	}
	body, err := readAll(in)
	if err != nil {
		return nil, nil, err
	}
	h := readHead(body)
	f := &watchedFile{name: name, id: h.fileID, bad: h.badID != "", sha: doc.Sum(body), since: info.ModTime()}
	if f.id == "" {
		f.id = doc.NewID(doc.Origin{Stream: "watch/" + originalName(name), Time: time.Unix(0, 0)}, f.sha)
	}
	return f, body, nil
}

// move moves a file to the next folder and reports it.
func (w *Watcher) move(f *watchedFile, from, to State, e Event) {
	if err := os.Rename(w.path(from, f.name), w.path(to, f.name)); err != nil {
		w.Trouble(fmt.Errorf("move %s to %s: %w", f.name, to, err))
		if !errors.Is(err, fs.ErrNotExist) {
			return // tried again in the next round
		}
	}
	delete(w.pending, f.name)
	delete(w.processing, f.name)
	if to == Processing {
		w.processing[f.name] = f
	}
	e.State = to
	w.report(f, e)
}

func (w *Watcher) report(f *watchedFile, e Event) {
	e.At, e.File = w.Now().UTC(), f.name
	if e.FileID == "" && !f.bad {
		e.FileID = f.id
	}
	w.Report(e)
}
