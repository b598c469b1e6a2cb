package store

import "context"

type urgentKey struct{}

// Urgent returns a context whose puts wait behind no batch and for no further objects: for
// work that somebody waits for.
func Urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey{}, true) }

// IsUrgent reports whether ctx comes from Urgent.
func IsUrgent(ctx context.Context) bool { return ctx.Value(urgentKey{}) != nil }
