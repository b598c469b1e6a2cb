package ingest

// NewReader returns the reading of bodies alone, for fuzzing.
func NewReader(c Config) func(body []byte) ([]byte, error) {
	h := &Handler{config: c}
	return func(body []byte) ([]byte, error) {
		r := h.read(body)
		return r.content, r.err
	}
}
