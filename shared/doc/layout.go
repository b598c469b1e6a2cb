package doc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/store"
)

// Layout says in which views a document is stored and which classes of it are kept there.
// Ingest decides it once and it travels with the document, so that every stage stores, and
// archive names, the same objects however the policy changes meanwhile. The zero value
// keeps everything; NewLayout makes all others.
type Layout struct {
	views   []contract.View
	classes []contract.Class
}

// NewLayout returns the layout that keeps the given classes in the given views. Their order
// is of no consequence, and the raw class is always kept.
func NewLayout(views []contract.View, classes []contract.Class) Layout {
	l := Layout{classes: []contract.Class{contract.ClassRaw}}
	for _, v := range contract.Views() {
		if slices.Contains(views, v) {
			l.views = append(l.views, v)
		}
	}
	for _, c := range contract.Classes()[1:] {
		if slices.Contains(classes, c) {
			l.classes = append(l.classes, c)
		}
	}
	return l
}

// IsZero reports whether l was never decided.
func (l Layout) IsZero() bool { return len(l.views) == 0 }

// Views returns the views, in the order of contract.Views.
func (l Layout) Views() []contract.View {
	if l.IsZero() {
		return contract.Views()
	}
	return l.views
}

// Keeps reports whether documents of a class are kept.
func (l Layout) Keeps(c contract.Class) bool { return l.IsZero() || slices.Contains(l.classes, c) }

// String returns the form in which a layout travels, such as by_date,by_provider;raw,validated.
// The zero value is empty.
func (l Layout) String() string {
	if l.IsZero() {
		return ""
	}
	return words(l.views) + ";" + words(l.classes)
}

func words[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, w := range list {
		texts[i] = string(w)
	}
	return strings.Join(texts, ",")
}

// ParseLayout reads what String wrote, and nothing else.
func ParseLayout(s string) (Layout, error) {
	if s == "" {
		return Layout{}, nil
	}
	views, classes, _ := strings.Cut(s, ";")
	l := NewLayout(split[contract.View](views), split[contract.Class](classes))
	if l.String() != s {
		return Layout{}, fmt.Errorf("%.80q is no layout: views of %v, a semicolon, classes of %v, in this order", s, contract.Views(), contract.Classes())
	}
	return l, nil
}

func split[T ~string](s string) []T {
	var list []T
	for w := range strings.SplitSeq(s, ",") {
		list = append(list, T(w))
	}
	return list
}

// Refs returns where the class of d is kept: an object per view of its layout, none where
// that does not keep the class.
func (d *Document) Refs(c contract.Class) []store.Ref {
	if !d.Layout.Keeps(c) {
		return nil
	}
	m := &d.Metadata
	return Views(c, d.Layout.Views(), m.CreatedAt, m.Provider, m.TaskType, d.Name)
}

// Views returns an object for each of Refs, all with the same body.
func (d *Document) Views(c contract.Class, body []byte) []store.Object {
	refs := d.Refs(c)
	out := make([]store.Object, len(refs))
	for i, r := range refs {
		out[i] = store.Object{Ref: r, Body: body}
	}
	return out
}
