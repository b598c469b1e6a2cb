package store

import "context"

type urgentKey struct{}

// Urgent returns a context whose puts wait behind no batch and for no further objects: for
// work that somebody waits for.
func Urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey{}, true) }

// IsUrgent reports whether ctx comes from Urgent.
func IsUrgent(ctx context.Context) bool { return ctx.Value(urgentKey{}) != nil }

type patientKey struct{}

// Patient returns a context whose puts nobody waits for yet. While little is written a store
// may let them wait a moment for a put that somebody does wait for, and bring both to disk
// together: meanwhile they are not in the way of others there. Urgent goes before it.
func Patient(ctx context.Context) context.Context { return context.WithValue(ctx, patientKey{}, true) }

// IsPatient reports whether ctx comes from Patient, and not from Urgent.
func IsPatient(ctx context.Context) bool { return ctx.Value(patientKey{}) != nil && !IsUrgent(ctx) }
