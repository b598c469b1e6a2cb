package storetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jobspy/millrace/shared/store"
)

func removeMany(t *testing.T, s *suite) {
	other := Bucket()
	_, err := s.EnsureBucket(s.ctx, other)
	require.NoError(t, err)
	kept := []store.Object{s.object("many/a/0000.json.kept", "x"), s.object("many/b/kept", "x"), s.object("kept <&> \"' +%20", "x")}
	require.Nil(t, s.Put(s.ctx, kept...))
	var objects []store.Object
	refs := []store.Ref{s.ref("none"), s.ref("../out"), s.ref(""), {Bucket: Bucket(), Key: "no such bucket"}}
	for i := range 1010 { // more than one request takes
		objects = append(objects, s.object(fmt.Sprintf("many/%c/%04d.json", 'a'+rune(i%2), i), fmt.Sprint(i)))
	}
	for _, key := range []string{"with space", "plus+sign", "per%20cent", "<xml>&amp;", "ümlaut/日本語/😀", "quote'\"back`tick"} {
		objects = append(objects, s.object("odd/"+key, key))
	}
	objects = append(objects, store.Object{Ref: store.Ref{Bucket: other, Key: "many/a/0000.json"}, Body: []byte("x")})
	require.Nil(t, s.Put(s.ctx, objects...))
	for _, o := range objects {
		refs = append(refs, o.Ref)
	}
	refs = append(refs, objects[0].Ref) // named twice
	for i, err := range s.Remove(s.ctx, refs...) {
		require.NoError(t, err, "%v", refs[i])
	}
	require.Equal(t, []string{kept[2].Key, kept[0].Key, kept[1].Key}, s.keys(t, ""))
	for info, err := range s.List(s.ctx, other, "") {
		require.NoError(t, err)
		t.Errorf("%v was to be removed", info.Ref)
	}
	require.Nil(t, s.Remove(s.ctx, refs...), "what is missing is no error")
	require.Nil(t, s.Remove(s.ctx), "no objects, no errors")
}
