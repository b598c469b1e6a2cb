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
		jobs, err := g.read(g.boards[i], a.page.body, q, q.limit-len(out.jobs))
		if err != nil {
			out.failures = append(out.failures, fmt.Errorf("board %s: %w", g.boards[i], err))
		}
		if err == nil || len(jobs) > 0 {
			out.answered++
		}
		out.jobs = append(out.jobs, jobs...)
	}
	return out
}

// greenhouseJob is a job as the API has it. Fields of other types than these make the job
// unreadable, not the board.
type greenhouseJob struct {
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

// read maps the jobs of a board that match, at most limit. With an error the jobs that
// could be read are returned all the same.
func (g *greenhouse) read(board string, body []byte, q *query, limit int) ([]doc.JobPosting, error) {
	var list struct {
		Jobs *[]codec.Value `json:"jobs"`
	}
	if err := codec.Unmarshal(body, &list); err != nil {
		return nil, &sourceError{status: doc.SourceFailed, cause: fmt.Errorf("read its jobs: %w", err)}
	}
	if list.Jobs == nil {
		return nil, &sourceError{status: doc.SourceFailed, cause: errors.New("its answer has no jobs member")}
	}
	var jobs []doc.JobPosting
	unread := 0
	for _, raw := range *list.Jobs {
		if len(jobs) >= limit {
			break
		}
		var j greenhouseJob
		id := ""
		if err := codec.Unmarshal(raw, &j); err == nil {
			id = identifier(j.ID)
		}
		if id == "" || strings.TrimSpace(j.Title) == "" {
			unread++
			continue
		}
		place := j.Location.Name
		for _, o := range j.Offices {
			place += ", " + o.Name + ", " + o.Location
		}
		if q.matches(j.Title, place, isRemote(j.Location.Name)) {
			jobs = append(jobs, j.posting(board, id))
		}
	}
	if unread > 0 {
		return jobs, &sourceError{status: doc.SourceFailed, cause: fmt.Errorf("%d of its jobs could not be read", unread)}
	}
	return jobs, nil
}

// posting maps a job to the canonical shape.
func (j *greenhouseJob) posting(board, id string) doc.JobPosting {
	company := strings.TrimSpace(j.Company)
	if company == "" {
		company = board
	}
	p := doc.JobPosting{
		Type: "JobPosting", Source: sourceGreenhouse, Identifier: id,
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
