// Package failpoint lets the fault suite end a process at a named place, make it die on a
// document, move its clock and switch one of its guards off. All of that exists only in
// programs built with the tag "chaos"; in any other build the functions are empty and cost
// nothing.
//
// The build with the tag reads the environment: CHAOS_DIR is a folder in which a file
// <stage>.<point> arms a point once, and a file "poison" arms documents that kill;
// CHAOS_CLOCK_OFFSET is added to the clock; CHAOS_WITHOUT lists the guards that are off.
package failpoint

// Point is a place between two steps of which one may be lost.
type Point string

// The points, in the order in which a document comes by.
const (
	Stored       Point = "stored"        // its objects are stored, its outputs may not be published
	Published    Point = "published"     // its outputs are published, its objects may not be stored
	Unconfirmed  Point = "unconfirmed"   // all is out, the input is not acknowledged
	Scheduled    Point = "scheduled"     // it will come back by schedule, the input is not acknowledged
	Taken        Point = "taken"         // its terminal state is taken, its end not published
	Ended        Point = "ended"         // its end is published, its terminal state not done
	LetterStored Point = "letter-stored" // its dead letter is in the bucket and not published
	LetterOut    Point = "letter-out"    // its dead letter is published, the input not terminated
)

// Points lists all points.
func Points() []Point {
	return []Point{Stored, Published, Unconfirmed, Scheduled, Taken, Ended, LetterStored, LetterOut}
}

// Guard is something that keeps documents from being lost or done twice.
type Guard string

// The guards that can be switched off.
const (
	AckLast      Guard = "ack-last"     // an input is acknowledged after its outputs are out
	MessageID    Guard = "message-id"   // a publish that is repeated is stored once
	Ledger       Guard = "ledger"       // a terminal state is taken once
	Sweeper      Guard = "sweeper"      // what is delivered too often is taken care of
	OutageIsFree Guard = "outage-free"  // an outage uses up nobody's attempts
	AllowList    Guard = "allow-list"   // only headers of ours are passed on
	Sync         Guard = "sync"         // the embedded store answers when a write is on disk
	AnswerFirst  Guard = "answer-first" // a dead letter is confirmed before its input is terminated
)

// Poison followed by the name of a stage stands in documents that kill that stage's process.
const Poison = "CHAOS-KILLS-"
