// Package config embeds the policies that people change while the line runs, as they are before
// anybody has changed them, and the JSON Schemas (draft 2020-12) that a change has to fit.
package config

import _ "embed" // for the files

//go:embed storage_config.json
var storage []byte

//go:embed storage_config.schema.json
var storageSchema []byte

//go:embed llm_config.json
var llm []byte

//go:embed llm_config.schema.json
var llmSchema []byte

// Storage returns how documents are stored unless somebody says otherwise, with every field.
func Storage() []byte { return storage }

// StorageSchema returns the schema of Storage and of each change to it.
func StorageSchema() []byte { return storageSchema }

// LLM returns what becomes of models' answers unless somebody says otherwise, with every field.
func LLM() []byte { return llm }

// LLMSchema returns the schema of LLM and of each change to it.
func LLMSchema() []byte { return llmSchema }
