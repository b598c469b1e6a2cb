package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
)

// storeProxy stands before the object store and answers wrongly when it is told to. Not all
// requests are hurt, so that retries meet both.
type storeProxy struct {
	addr   string
	mode   atomic.Pointer[Kind] // nil passes everything on
	asked  atomic.Uint64
	proxy  *httputil.ReverseProxy
	server *http.Server
}

// hurtOf three requests two are hurt.
const hurtOf = 3

func newStoreProxy(upstream string) (*storeProxy, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen before the store: %w", err)
	}
	target := &url.URL{Scheme: "http", Host: upstream}
	s := &storeProxy{addr: l.Addr().String()}
	s.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: s.truncate,
		ErrorLog:       log.New(io.Discard, "", 0),
		Transport:      &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 0, ErrorLog: log.New(io.Discard, "", 0)} //nolint:gosec // our own clients only
	go func() { _ = s.server.Serve(l) }()                                                           // it ends with close
	return s, nil
}

func (s *storeProxy) close() { _ = s.server.Close() }

// set makes the store answer as k says; an empty k heals it.
func (s *storeProxy) set(k Kind) {
	if k == "" {
		s.mode.Store(nil)
		return
	}
	s.mode.Store(&k)
}

// ServeHTTP passes a request on, or does not.
func (s *storeProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mode := s.mode.Load()
	if mode == nil || s.asked.Add(1)%hurtOf == 0 {
		s.proxy.ServeHTTP(w, r)
		return
	}
	switch *mode {
	case StoreError:
		refuse(w, http.StatusInternalServerError, "InternalError")
	case StoreSlowDown:
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
	case StoreLate:
		s.proxy.ServeHTTP(&nowhere{header: http.Header{}}, r)
		refuse(w, http.StatusInternalServerError, "InternalError")
	case StoreTruncated:
		if r.Method == http.MethodPut {
			s.cut(r)
			return
		}
		s.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), cutKey{}, true)))
	default:
		s.proxy.ServeHTTP(w, r)
	}
}

// cut passes half of a body on and then drops the connection.
func (s *storeProxy) cut(r *http.Request) {
	if r.ContentLength > 1 {
		half := io.LimitReader(r.Body, r.ContentLength/2)
		r.Body = io.NopCloser(io.MultiReader(half, broken{}))
	}
	s.proxy.ServeHTTP(&nowhere{header: http.Header{}}, r)
	panic(http.ErrAbortHandler)
}

type cutKey struct{}

// broken is the end of a body that was cut.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// truncate cuts a response whose request says so: its length is told, and half of it comes.
func (s *storeProxy) truncate(r *http.Response) error {
	if r.Request.Context().Value(cutKey{}) == nil || r.ContentLength < 2 {
		return nil
	}
	half := io.LimitReader(r.Body, r.ContentLength/2)
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(half, broken{}), r.Body}
	return nil
}

// refuse answers as a store does that cannot.
func refuse(w http.ResponseWriter, status int, code string) {
	body := `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>by the fault suite</Message></Error>`
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.Copy(w, strings.NewReader(body)) // the caller may have gone
}

// nowhere takes an answer that nobody gets.
type nowhere struct {
	header http.Header
	body   bytes.Buffer
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(b []byte) (int, error) { return n.body.Write(b) }
func (n *nowhere) WriteHeader(int)             {}
