package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/jobspy/millrace/shared/codec"
)

// The time limits of the HTTP server. Its requests are small and its answers quick.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 30 * time.Second
	readyTimeout = 5 * time.Second // for one readiness check
	stopTimeout  = time.Second
)

// Readiness returns what keeps the process from working, by name; empty means it works.
type Readiness func(ctx context.Context) map[string]error

// Server answers /healthz, /readyz and /metrics.
type Server struct {
	listener net.Listener
	server   *http.Server
	done     chan error
}

// Page is a further path that a server answers.
type Page struct {
	Path    string // such as /jsz
	Handler http.Handler
}

// Serve listens on addr (host:port) and answers until Stop.
func Serve(addr string, metrics prometheus.Gatherer, ready Readiness, pages ...Page) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP on %s: %w", addr, err)
	}
	s := &Server{
		listener: l, done: make(chan error, 1),
		server: &http.Server{
			Handler: handler(metrics, ready, pages), ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
			ReadHeaderTimeout: readTimeout, MaxHeaderBytes: 16 << 10,
		},
	}
	go func() { s.done <- s.server.Serve(l) }()
	return s, nil
}

// Addr returns the address that Serve listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Stop ends the server and waits for it.
func (s *Server) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close()
	}
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func handler(metrics prometheus.Gatherer, ready Readiness, pages []Page) http.Handler {
	mux := http.NewServeMux()
	for _, p := range pages {
		mux.Handle("GET "+p.Path, p.Handler)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		problems := map[string]string{}
		for what, err := range ready(ctx) {
			problems[what] = err.Error()
		}
		if len(problems) > 0 {
			reply(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "reasons": problems})
			return
		}
		reply(w, http.StatusOK, map[string]any{"status": "ready"})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}

func reply(w http.ResponseWriter, status int, body any) {
	b, err := codec.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client is gone: nobody is left to tell
}
