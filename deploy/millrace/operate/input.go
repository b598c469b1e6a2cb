package operate

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/jobspy/millrace/shared/codec"
)

// Stdin is the path that means standard input.
const Stdin = "-"

const (
	// sniffBytes is how much of standard input is read to tell one document from many.
	sniffBytes = 32 << 20
	// sniffDepth is how deeply a line may be nested and still count as a JSON value.
	sniffDepth = 10_000
)

// Input is one document as it was found.
type Input struct {
	File string // the path, or Stdin
	Line int    // from 1, where the file has one document per line; else 0
	Body []byte
}

// Where names the document to people.
func (i Input) Where() string {
	name := i.File
	if name == Stdin {
		name = "standard input"
	}
	if i.Line > 0 {
		return fmt.Sprintf("%s:%d", name, i.Line)
	}
	return name
}

// Inputs yields the documents of files, of folders (each *.json, and each line of *.ndjson
// and *.jsonl, in the order of their paths; hidden ones are left out) and of stdin where a
// path is Stdin. What cannot be read is yielded as an error that names it, and the rest goes
// on. At most MaxDocument bytes are held.
func Inputs(paths []string, stdin io.Reader) iter.Seq2[Input, error] {
	return func(yield func(Input, error) bool) {
		for _, p := range paths {
			if !one(p, stdin, yield) {
				return
			}
		}
	}
}

func one(path string, stdin io.Reader, yield func(Input, error) bool) bool {
	if path == Stdin {
		return readStdin(stdin, yield)
	}
	info, err := os.Stat(path)
	if err != nil {
		return yield(Input{File: path}, err)
	}
	if !info.IsDir() {
		return readFile(path, yield)
	}
	found := false
	err = filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			if !yield(Input{File: p}, err) {
				return fs.SkipAll
			}
			return nil
		case p != path && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir() || !isDocument(p):
			return nil
		}
		found = true
		if !readFile(p, yield) {
			path = "" // the caller has had enough
			return fs.SkipAll
		}
		return nil
	})
	switch {
	case path == "":
		return false
	case err != nil:
		return yield(Input{File: path}, err)
	case !found:
		return yield(Input{File: path}, errors.New("the folder has no *.json, *.ndjson or *.jsonl file"))
	}
	return true
}

func isDocument(path string) bool { return strings.HasSuffix(path, ".json") || isLines(path) }

func isLines(path string) bool {
	return strings.HasSuffix(path, ".ndjson") || strings.HasSuffix(path, ".jsonl")
}

func readFile(path string, yield func(Input, error) bool) bool {
	f, err := os.Open(path)
	if err != nil {
		return yield(Input{File: path}, err)
	}
	defer f.Close()
	if isLines(path) {
		return readLines(path, f, yield)
	}
	body, err := readAll(f)
	return yield(Input{File: path, Body: body}, err)
}

// readAll reads one whole document.
func readAll(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, MaxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(body) > MaxDocument {
		return nil, fmt.Errorf("over %d bytes, which is the most that can be published", MaxDocument)
	}
	return body, nil
}

// readStdin takes standard input as one document per line where it has several lines and
// each is a JSON value, else as one document.
func readStdin(stdin io.Reader, yield func(Input, error) bool) bool {
	start, err := io.ReadAll(io.LimitReader(stdin, sniffBytes))
	if err != nil {
		return yield(Input{File: Stdin}, err)
	}
	all := io.MultiReader(bytes.NewReader(start), stdin)
	if manyValues(start, len(start) < sniffBytes) {
		return readLines(Stdin, all, yield)
	}
	body, err := readAll(all)
	if err == nil && len(body) == 0 {
		err = errors.New("there is nothing to read")
	}
	return yield(Input{File: Stdin, Body: body}, err)
}

// manyValues reports whether each line of b is a JSON value and there are several; whole
// says that b ends where the input does.
func manyValues(b []byte, whole bool) bool {
	if !whole {
		b = b[:bytes.LastIndexByte(b, '\n')+1]
	}
	n := 0
	for line := range bytes.Lines(b) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if codec.Check(line, sniffDepth) != nil {
			return false
		}
		n++
	}
	return n > 1
}

// readLines yields each line that is not blank, without its line break.
func readLines(path string, r io.Reader, yield func(Input, error) bool) bool {
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(in)
		switch {
		case errors.Is(err, errLong):
			if !yield(Input{File: path, Line: n}, err) {
				return false
			}
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return yield(Input{File: path, Line: n}, err)
		}
		if body := bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(body)) > 0 {
			if !yield(Input{File: path, Line: n, Body: body}, nil) {
				return false
			}
		}
		if err != nil {
			return true
		}
	}
}

// errLong is what readLine returns of a line that no memory shall hold.
var errLong = fmt.Errorf("the line is over %d bytes", MaxDocument)

// readLine reads up to the next line break; io.EOF comes with the last line.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > MaxDocument {
			line, long = nil, true
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == nil && long:
			return nil, errLong
		default:
			return line, err
		}
	}
}

// Single reads inputs as far as it takes to know that there is at most one, and yields that.
func Single(inputs iter.Seq2[Input, error]) (iter.Seq2[Input, error], error) {
	type found struct {
		in  Input
		err error
	}
	var all []found
	for in, err := range inputs {
		all = append(all, found{in, err})
		if len(all) > 1 {
			return nil, fmt.Errorf("%s is another one", in.Where())
		}
	}
	return func(yield func(Input, error) bool) {
		for _, f := range all {
			if !yield(f.in, f.err) {
				return
			}
		}
	}, nil
}
