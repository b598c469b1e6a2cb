// Package schemas embeds the JSON Schemas (draft 2020-12) of the content of each task type
// and version, and the sample documents. The schemas demand the members without which a
// document means nothing, fix the types of those they know, take null for every optional
// one, and leave all other members alone: models add members freely.
package schemas

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed intent_analysis job_extraction data_enrichment quality_validation
var files embed.FS

//go:embed examples/*.json
var examples embed.FS

// Files returns the schemas, each as <task>/<version>.json.
func Files() fs.FS { return files }

// Examples returns the sample documents, all at the top. What each is and where it must
// end is told in examples/README.md.
func Examples() fs.FS {
	sub, err := fs.Sub(examples, "examples")
	if err != nil {
		// "examples" is a valid path, which is all that fs.Sub asks for.
		panic(err)
	}
	return sub
}

// Names returns the names of the schemas as they stand in metadata.schema, such as
// job_extraction/1, sorted.
func Names() []string {
	paths, err := fs.Glob(files, "*/*.json")
	if err != nil {
		// The pattern is well formed, which is all that fs.Glob asks for.
		panic(err)
	}
	for i, p := range paths {
		paths[i] = strings.TrimSuffix(p, ".json")
	}
	return paths
}
