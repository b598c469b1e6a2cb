// Package config embeds the policy that people change while the line runs, as it is before
// anybody has changed it, and the JSON Schemas (draft 2020-12) that a change has to fit.
package config

import _ "embed" // for the files

//go:embed storage_config.json
var storage []byte

//go:embed storage_config.schema.json
var storageSchema []byte

// Storage returns how documents are stored unless somebody says otherwise, with every field.
func Storage() []byte { return storage }

// StorageSchema returns the schema of Storage and of each change to it.
func StorageSchema() []byte { return storageSchema }
