package scrape

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/doc"
)

// sourceGreenhouse is the name of the source that asks boards at Greenhouse.
const sourceGreenhouse = "greenhouse"

// parallelBoards is how many boards are asked at the same time for one document.
const parallelBoards = 4

// maxField is the longest short text that is taken over from a board, in bytes.
const maxField = 1024

// greenhouse asks the public job board API of Greenhouse, one request per board.
type greenhouse struct {
	fetcher *fetcher
	base    string
	boards  []string
}

func newGreenhouse(cfg *GreenhouseConfig, f *fetcher) *greenhouse {
	return &greenhouse{fetcher: f, base: strings.TrimRight(cfg.URL, "/"), boards: cfg.Boards}
}

// search implements source. The jobs stand in the order of the boards.
func (g *greenhouse) search(ctx context.Context, q *query) findings {
	type answer struct {
		page page
		err  error
	}
	answers := make([]answer, len(g.boards))
	slots := make(chan struct{}, parallelBoards)
	var all sync.WaitGroup
	for i, board := range g.boards {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			a := &answers[i]
			a.page, a.err = g.fetcher.get(ctx, g.base+"/v1/boards/"+url.PathEscape(board)+"/jobs?content=true")
		})
	}
	all.Wait()

	var out findings
	for i, a := range answers {
		if a.page.status != 0 {
			out.pages = append(out.pages, a.page)
		}
		if a.err != nil {
			out.failures = append(out.failures, fmt.Errorf("board %s: %w", g.boards[i], a.err))
			continue
		}
		b := listing(&a.page, parseBoard)
		if b.err != nil {
			out.failures = append(out.failures, fmt.Errorf("board %s: %w", g.boards[i], b.err))
		}
		if !b.readable() {
			continue
		}
		out.answered++
		out.jobs = append(out.jobs, b.matching(g.boards[i], q, q.limit-len(out.jobs))...)
	}
	return out
}

// greenhouseJob is a job as the API has it. Fields of other types than these make the job
// unreadable, not the board.
type greenhouseJob struct {
	id       string
	ID       codec.Value `json:"id"`
	Title    string      `json:"title"`
	Company  string      `json:"company_name"`
	URL      string      `json:"absolute_url"`
	Content  string      `json:"content"` // HTML, escaped once more
	First    string      `json:"first_published"`
	Updated  string      `json:"updated_at"`
	Location struct {
		Name string `json:"name"`
	} `json:"location"`
	Offices []struct {
		Name     string `json:"name"`
		Location string `json:"location"`
	} `json:"offices"`
}

// greenhouseBoard is what a board's answer holds.
type greenhouseBoard struct {
	jobs []greenhouseJob
	err  error // what could not be read: all of it, or some jobs
}

// readable reports whether the answer is that of a board, though perhaps one without jobs.
func (b *greenhouseBoard) readable() bool { return b.err == nil || len(b.jobs) > 0 }

// parseBoard reads a board's answer, each job for itself.
func parseBoard(body []byte) *greenhouseBoard {
	var list struct {
		Jobs *[]codec.Value `json:"jobs"`
	}
	if err := codec.Unmarshal(body, &list); err != nil {
		return &greenhouseBoard{err: &sourceError{status: doc.SourceFailed, cause: fmt.Errorf("read its jobs: %w", err)}}
	}
	if list.Jobs == nil {
		return &greenhouseBoard{err: &sourceError{status: doc.SourceFailed, cause: errors.New("its answer has no jobs member")}}
	}
	b := &greenhouseBoard{jobs: make([]greenhouseJob, 0, len(*list.Jobs))}
	unread := 0
	for _, raw := range *list.Jobs {
		var j greenhouseJob
		if err := codec.Unmarshal(raw, &j); err == nil {
			j.id = identifier(j.ID)
		}
		if j.id == "" || strings.TrimSpace(j.Title) == "" {
			unread++
			continue
		}
		j.ID = nil // it would hold on to the whole answer
		b.jobs = append(b.jobs, j)
	}
	if unread > 0 {
		b.err = &sourceError{status: doc.SourceFailed, cause: fmt.Errorf("%d of its jobs could not be read", unread)}
	}
	return b
}

// matching maps the jobs of a board that match, at most limit.
func (b *greenhouseBoard) matching(board string, q *query, limit int) []doc.JobPosting {
	var jobs []doc.JobPosting
	for i := range b.jobs {
		if len(jobs) >= limit {
			break
		}
		if j := &b.jobs[i]; q.matches(j.Title, j.places(), isRemote(j.Location.Name)) {
			jobs = append(jobs, j.posting(board))
		}
	}
	return jobs
}

// places lists all that the job says about where it is.
func (j *greenhouseJob) places() string {
	all := []string{j.Location.Name}
	for _, o := range j.Offices {
		all = append(all, o.Name, o.Location)
	}
	return strings.Join(all, ", ")
}

// posting maps a job to the canonical shape.
func (j *greenhouseJob) posting(board string) doc.JobPosting {
	company := strings.TrimSpace(j.Company)
	if company == "" {
		company = board
	}
	p := doc.JobPosting{
		Type: "JobPosting", Source: sourceGreenhouse, Identifier: j.id,
		Title:              cut(strings.TrimSpace(j.Title), maxField),
		HiringOrganization: &doc.Organization{Type: "Organization", Name: cut(company, maxField)},
		Description:        plain(html.UnescapeString(j.Content)),
	}
	if place := strings.TrimSpace(j.Location.Name); place != "" {
		p.JobLocation = &doc.Location{Type: "Place", Text: cut(place, maxField)}
		if isRemote(place) {
			p.JobLocationType = "TELECOMMUTE"
		}
	}
	if u, err := url.Parse(j.URL); err == nil && (u.Scheme == "https" || u.Scheme == "http") && len(j.URL) <= maxField {
		p.URL = j.URL
	}
	p.DatePosted, p.DatePostedText = posted(j.First, j.Updated)
	return p
}

// posted returns the first of the texts that is a time, in UTC; where none is, the first
// that is not empty stays text.
func posted(texts ...string) (at, text string) {
	for _, s := range texts {
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			return t.UTC().Format(time.RFC3339), ""
		}
		if text == "" {
			text = cut(s, maxField)
		}
	}
	return "", text
}

// identifier reads an id, a number or a text.
func identifier(v codec.Value) string {
	var s string
	switch codec.KindOf(v) {
	case '0':
		s = v.String()
	case '"':
		if err := codec.Unmarshal(v, &s); err != nil {
			return ""
		}
	default:
		return ""
	}
	if len(s) > 64 {
		return ""
	}
	return s
}
