package aggregate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jobspy/millrace/shared/doc"
)

func compare(a, b string) int { return cmp.Compare(a, b) }

// merge makes the jobs of a result out of what sources or a model gave: each job once, the
// best copy of it, with an id and a quality, best first. The order of jobs does not matter.
func merge(fileID string, jobs []doc.JobPosting) []doc.JobPosting {
	type candidate struct {
		job  doc.JobPosting
		key  string // normal form
		sort string // what decides between equals
	}
	all := make([]candidate, 0, len(jobs))
	for _, j := range jobs {
		q := quality(&j)
		j.Quality, j.JobID = &q, ""
		_ = dropMembers(&j, memberFacts, memberVerdict) // members that cannot be read are none of these
		key := normal(&j)
		all = append(all, candidate{j, key, strings.Join([]string{j.Source, j.Identifier, key, j.URL, j.Description, string(j.Extra)}, "\n")})
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(*b.job.Quality, *a.job.Quality), cmp.Compare(a.sort, b.sort))
	})
	seen := map[string]bool{}
	ids := map[string]bool{}
	var out []doc.JobPosting
	for _, c := range all {
		keys := []string{"normal\n" + c.key}
		if c.job.Source != "" && c.job.Identifier != "" {
			keys = append(keys, "source\n"+c.job.Source+"\n"+c.job.Identifier)
		}
		known := slices.ContainsFunc(keys, func(k string) bool { return seen[k] })
		for _, k := range keys {
			seen[k] = true
		}
		if known {
			continue
		}
		c.job.JobID = jobID(fileID, c.key, ids)
		out = append(out, c.job)
	}
	slices.SortFunc(out, func(a, b doc.JobPosting) int {
		return cmp.Or(cmp.Compare(*b.Quality, *a.Quality), cmp.Compare(a.JobID, b.JobID))
	})
	return out
}

// jobID names a job of a document by its normal form. Where two forms share a sum the later
// one takes the next.
func jobID(fileID, key string, taken map[string]bool) string {
	for n := 0; ; n++ {
		text := key
		if n > 0 {
			text = fmt.Sprintf("%s\n%d", key, n)
		}
		id := fileID + "_" + doc.Sum([]byte(text))[:8]
		if !taken[id] {
			taken[id] = true
			return id
		}
	}
}

// legal are words at the end of a company's name that say only what kind of company it is.
var legal = map[string]bool{
	"inc": true, "incorporated": true, "llc": true, "ltd": true, "limited": true, "pty": true, "plc": true,
	"corp": true, "corporation": true, "co": true, "company": true, "gmbh": true, "ag": true, "sa": true, "bv": true,
}

// normal is the normal form of a job: title, company and location in lower case as words
// of letters and digits with one space between them, the company without its legal form.
// Without a company those are too little to call two jobs the same, so that address and
// description belong to it too.
func normal(j *doc.JobPosting) string {
	company, place := "", ""
	if j.HiringOrganization != nil {
		w := words(j.HiringOrganization.Name)
		for len(w) > 1 && legal[w[len(w)-1]] {
			w = w[:len(w)-1]
		}
		company = strings.Join(w, " ")
	}
	if j.JobLocation != nil {
		place = strings.Join(words(j.JobLocation.Text), " ")
	}
	parts := []string{strings.Join(words(j.Title), " "), company, place}
	if company == "" {
		parts = append(parts, j.URL, strings.Join(words(j.Description), " "))
	}
	return strings.Join(parts, "\n")
}

// words splits a text into words of letters and digits in lower case. "+" and "#" belong to
// words, for C++ and C# are not C.
func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && r != '+' && r != '#'
	})
}

// fullDescription is how many characters a description has that is not just a teaser.
const fullDescription = 200

// quality says from 0 to 1 how complete a job is: the sum of what its filled fields weigh.
// Title 0.20, company 0.20, location 0.15, address 0.15, description 0.15 (a short one half
// of it), date 0.10, pay or employment type or skills 0.05.
func quality(j *doc.JobPosting) float64 {
	points := 0.0
	add := func(filled bool, weight float64) {
		if filled {
			points += weight
		}
	}
	description := utf8.RuneCountInString(strings.TrimSpace(j.Description))
	add(strings.TrimSpace(j.Title) != "", 20)
	add(j.HiringOrganization != nil && strings.TrimSpace(j.HiringOrganization.Name) != "", 20)
	add(j.JobLocation != nil && strings.TrimSpace(j.JobLocation.Text) != "" || j.JobLocationType != "", 15)
	add(j.URL != "", 15)
	add(description > 0, 7.5)
	add(description >= fullDescription, 7.5)
	add(j.DatePosted != "", 10)
	add(j.BaseSalaryText != "" || j.EmploymentType != "" || len(j.Skills) > 0, 5)
	return math.Round(points*10) / 1000
}
