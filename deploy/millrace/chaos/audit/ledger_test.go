package audit

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Of a document that is sent twice and of one message that conflicts with it, either the one or
// the two are dead letters: which bytes are taken first is not the sender's to say.
func TestHowManyMessagesConflictDependsOnWhichIsTakenFirst(t *testing.T) {
	t.Parallel()
	d := Document{ID: "a", Body: []byte("own")}
	l := NewLedger()
	l.Sending(d)
	l.Accepted(d.ID, 1)
	l.Copied(&d, Copy{Body: d.Body, MsgID: "a-again"}, true, 1)
	l.Copied(&d, Copy{Body: []byte("other"), MsgID: "a-other"}, true, 2)
	l.Copied(&d, Copy{Body: d.Body, MsgID: d.ID}, true, 1)
	e := l.entries()[d.ID]

	least, most := e.conflicting(false)
	require.Equal(t, []int{1, 2}, []int{least, most})
	least, most = e.conflicting(true)
	require.Equal(t, []int{2, 3}, []int{least, most})
}
