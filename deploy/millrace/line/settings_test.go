package line_test

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/deploy/millrace/line"
	"github.com/jobspy/millrace/shared/config"
	"github.com/jobspy/millrace/shared/stage"
)

// top is the top of the tree, seen from this folder.
const top = "../../.."

// setting is one setting of the environment, for the documents about it.
type setting struct {
	name, value string // value is the default, empty for none
	readBy      []string
	says        []says
	secret      bool
}

// says is what a struct's comment tells about a setting; by names the struct's reader.
type says struct{ by, text string }

// The readers that are not one stage.
const (
	everything = "all"    // the stages and the commands of millrace that connect
	eachStage  = "stages" // the stages, also those in millrace up
)

// extras are the settings that are no field of a struct.
func extras() []setting {
	extra := func(name, value, by, text string) setting {
		return setting{name: name, value: value, readBy: []string{by}, says: []says{{by, text}}}
	}
	return []setting{
		extra("S3_ACCESS_KEY_FILE", "", everything, "Path of a file with the access key, instead of S3_ACCESS_KEY. Setting both is an error."),
		extra("S3_SECRET_KEY_FILE", "", everything, "Path of a file with the secret key, instead of S3_SECRET_KEY. Setting both is an error."),
		extra("STREAM_REPLICAS", "1", "provision, doctor", "How many servers of the broker's cluster keep each message, from 1 to 5."),
		extra("NATS_MONITOR_URL", "", "doctor, bench", "Monitoring address of the broker, such as http://127.0.0.1:8222; several of a cluster are separated by commas. Without it they cannot prove that the broker syncs."),
	}
}

// readBy holds the settings that fewer or more programs read than the struct they are in.
func readBy() map[string]string {
	return map[string]string{
		"HTTP_ADDR": eachStage, "LOG_LEVEL": eachStage,
		"STORE_VIEWS": eachStage + ", provision, replay", "LEDGER_TTL": eachStage + ", replay",
		"REPLAY_MAX": eachStage + ", dlq replay",
	}
}

// source is a struct that is filled from the environment.
type source struct {
	dir, by string // folder from the top of the tree, and who reads it
	typ     string
	params  func() ([]config.Param, error)
}

func sources() []source {
	all := []source{
		{"shared/config", everything, "Common", config.Params[config.Common]},
		{"shared/stage", eachStage, "Config", config.Params[stage.Config]},
	}
	for _, d := range line.Stages() {
		all = append(all, source{"stages/" + string(d.Stage), string(d.Stage), "Config", d.Params})
	}
	return all
}

// TestSettingsAreDocumented renders deploy/.env.example and the table of README.md from the
// structs that are filled from the environment and their comments.
//
// The documents lie outside this module, where go test does not see that a file has changed:
// after a change of them by hand it needs -count=1 to be run again.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	all := settings(t)
	golden(t, "deploy/.env.example", func(string) (string, error) { return envExample(all), nil })
	golden(t, "README.md", func(have string) (string, error) { return between(have, table(all)) })
}

// TestNoSettingIsReadBesideThem finds settings that code takes out of the environment by
// name and that no struct and no row of extras has.
func TestNoSettingIsReadBesideThem(t *testing.T) {
	t.Parallel()
	var known []string
	for _, s := range settings(t) {
		known = append(known, s.name)
	}
	for _, dir := range []string{"shared", "stages", "deploy/millrace"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (strings.HasSuffix(path, "test") || d.Name() == "testdata"):
				return fs.SkipDir // helpers of tests have variables of their own
			case d.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
				return nil
			}
			if text, err := os.ReadFile(path); err != nil || strings.HasPrefix(string(text), "//go:build chaos\n") {
				return err // only programs of the fault suite have it
			}
			for _, name := range namesRead(t, path) {
				require.Contains(t, known, name, "%s reads a setting that is not documented: add it to a Config or to extras", path)
			}
			return nil
		})
		require.NoError(t, err)
	}
}

// TestSecretsMayComeFromFiles proves the _FILE rows of extras, one for each secret.
func TestSecretsMayComeFromFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("from a file\n"), 0o600))
	all := settings(t)
	for _, s := range all {
		if !s.secret {
			continue
		}
		require.True(t, slices.ContainsFunc(all, func(o setting) bool { return o.name == s.name+"_FILE" }), "%s_FILE is not documented", s.name)
		vars, err := config.Environ([]string{s.name + "_FILE=" + path})
		require.NoError(t, err)
		require.Equal(t, "from a file", vars[s.name])
	}
}

// golden compares a file with what render makes of it, or writes it with -update, the flag
// that all golden tests share.
func golden(t *testing.T, name string, render func(have string) (string, error)) {
	t.Helper()
	path := filepath.Join(top, name)
	have, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	want, err := render(string(have))
	require.NoError(t, err, name)
	if want == string(have) {
		return
	}
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644)) //nolint:gosec // a document for everyone
		return
	}
	require.Equal(t, want, string(have), "%s does not show the settings as they are: run `go test ./deploy/millrace/line -run TestSettings -update` at the top", name)
}

// settings lists every setting once, in the order in which people need them.
func settings(t *testing.T) []setting {
	t.Helper()
	var all []setting
	for _, src := range sources() {
		found := fields(t, src)
		params, err := src.params()
		require.NoError(t, err)
		require.Len(t, found, len(params), "settings of %s found in its source", src.dir)
		for i, f := range found {
			require.Equal(t, params[i].Name, f.name, "settings of %s in their order", src.dir)
			f.value = params[i].Default
			f.readBy = []string{cmp.Or(readBy()[f.name], src.by)}
			all = merge(t, all, f)
		}
		if src.by == everything {
			for _, f := range extras() {
				all = merge(t, all, f)
			}
		}
	}
	return all
}

// merge adds a setting. Where several structs have it they must agree on its default.
func merge(t *testing.T, all []setting, s setting) []setting {
	t.Helper()
	i := slices.IndexFunc(all, func(o setting) bool { return o.name == s.name })
	if i < 0 {
		return append(all, s)
	}
	require.Equal(t, all[i].value, s.value, "default of %s in %v and %v", s.name, all[i].readBy, s.readBy)
	all[i].readBy = append(all[i].readBy, s.readBy...)
	all[i].says = append(all[i].says, s.says...)
	return all
}

// fields reads the settings of a struct and their comments from its source.
func fields(t *testing.T, src source) []setting {
	t.Helper()
	types := map[string]*ast.StructType{}
	files, err := filepath.Glob(filepath.Join(top, src.dir, "*.go"))
	require.NoError(t, err)
	for _, path := range files {
		ast.Inspect(parse(t, path), func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					types[spec.Name.Name] = s
				}
			}
			return true
		})
	}
	var found []setting
	var walk func(name, prefix string)
	walk = func(name, prefix string) {
		require.Contains(t, types, name, "struct in %s", src.dir)
		for _, f := range types[name].Fields.List {
			if f.Tag == nil {
				continue
			}
			raw, err := strconv.Unquote(f.Tag.Value)
			require.NoError(t, err)
			tag := reflect.StructTag(raw)
			ident, _ := f.Type.(*ast.Ident)
			if p, ok := tag.Lookup("envPrefix"); ok {
				require.NotNil(t, ident, "a struct with a prefix is of a type of the same package")
				walk(ident.Name, prefix+p)
				continue
			}
			key, _, _ := strings.Cut(tag.Get("env"), ",")
			if key == "" {
				continue
			}
			require.Len(t, f.Names, 1)
			text := strings.Join(strings.Fields(f.Doc.Text()), " ")
			require.NotEmpty(t, text, "%s.%s in %s needs a comment above it: what it is, its unit, its limits", name, f.Names[0], src.dir)
			found = append(found, setting{
				name: prefix + key, secret: ident != nil && ident.Name == "Secret",
				says: []says{{src.by, withoutField(f.Names[0].Name, prefix+key, text)}},
			})
		}
	}
	walk(src.typ, "")
	return found
}

// withoutField turns "Burst is how many …" into "How many …", and any other "Burst" at the
// beginning into the name that people know the setting by.
func withoutField(field, name, text string) string {
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(text, field+verb); ok {
			return strings.ToUpper(rest[:1]) + rest[1:]
		}
	}
	if rest, ok := strings.CutPrefix(text, field+" "); ok {
		return name + " " + rest
	}
	return text
}

// settingName matches what is only ever a variable of the environment.
var settingName = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$`)

// namesRead returns the settings that a file takes by name, out of a map or of the process.
func namesRead(t *testing.T, path string) []string {
	t.Helper()
	var names []string
	add := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return
		}
		name, err := strconv.Unquote(lit.Value)
		require.NoError(t, err)
		if settingName.MatchString(name) {
			names = append(names, name)
		}
	}
	ast.Inspect(parse(t, path), func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IndexExpr:
			add(n.Index)
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Getenv" || f.Sel.Name == "LookupEnv") {
				for _, a := range n.Args {
					add(a)
				}
			}
		}
		return true
	})
	return names
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	return f
}

// between puts text between the markers of a document.
func between(document, text string) (string, error) {
	const begin, end = "<!-- settings -->\n", "<!-- /settings -->"
	before, rest, ok := strings.Cut(document, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("the markers %q and %q are not there", strings.TrimSpace(begin), end)
	}
	return before + begin + text + end + after, nil
}

// table renders the settings for people who look one up: what each is in a sentence.
func table(all []setting) string {
	var b strings.Builder
	b.WriteString("| setting | default | read by | what |\n|---|---|---|---|\n")
	for _, s := range all {
		value := ""
		if s.value != "" {
			value = "`" + s.value + "`"
		}
		var texts []string
		for _, one := range s.says {
			first, _, _ := strings.Cut(one.text, ". ")
			texts = append(texts, one.in(s, strings.TrimSuffix(first, ".")))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.name, value, strings.Join(s.readBy, ", "),
			strings.ReplaceAll(strings.Join(texts, "; "), "|", `\|`))
	}
	return b.String()
}

// in says by whom a text is, where a setting has several.
func (one says) in(s setting, text string) string {
	if len(s.says) > 1 {
		return one.by + ": " + strings.ToLower(text[:1]) + text[1:]
	}
	return text
}

// exampleWidth is the longest line of a comment in .env.example, in characters.
const exampleWidth = 90

// envExample renders the settings as a file that changes nothing until a line loses its "# ".
func envExample(all []setting) string {
	var b strings.Builder
	b.WriteString(`# Every setting of Millrace with its default. Copy this file, take the "# " off the lines that
# you want to change, and load it before a program starts: set -a; . FILE; set +a
#
# In brackets: who reads it. "all" are the eight stages and the commands of millrace that
# connect, "stages" are the stages, also those that "millrace up" runs.
`)
	for _, s := range all {
		b.WriteString("\n")
		for _, one := range s.says {
			wrap(&b, one.in(s, one.text))
		}
		fmt.Fprintf(&b, "# [%s]\n# %s=%s\n", strings.Join(s.readBy, ", "), s.name, quote(s.value))
	}
	return b.String()
}

// wrap writes text as lines of a comment.
func wrap(b *strings.Builder, text string) {
	length := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case length == 0:
			length, _ = fmt.Fprint(b, "# ", word)
		case length+1+len(word) > exampleWidth:
			b.WriteString("\n")
			length, _ = fmt.Fprint(b, "# ", word)
		default:
			n, _ := fmt.Fprint(b, " ", word)
			length += n
		}
	}
	b.WriteString("\n")
}

// plain matches values that no shell takes apart.
var plain = regexp.MustCompile(`^[A-Za-z0-9_.,:/@+-]*$`)

// quote writes a value so that shells, systemd and compose read it alike.
func quote(value string) string {
	if plain.MatchString(value) {
		return value
	}
	return "'" + value + "'"
}
