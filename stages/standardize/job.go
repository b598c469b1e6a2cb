package standardize

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jobspy/millrace/shared/codec"
	"github.com/jobspy/millrace/shared/contract"
	"github.com/jobspy/millrace/shared/doc"
	"github.com/jobspy/millrace/shared/fault"
)

// The values of schema.org that every job has.
const (
	typeJob          = "JobPosting"
	typeOrganization = "Organization"
	typePlace        = "Place"
	telecommute      = "TELECOMMUTE"
)

// idDigits is how many hex digits of the sha256 a job_id has behind the file_id.
const idDigits = 8

// properties are the names that a doc.JobPosting writes; a member of that name cannot be kept
// beside them. A test holds them against the type.
var properties = map[string]bool{
	"@type": true, "job_id": true, "source": true, "identifier": true, "title": true, "hiringOrganization": true,
	"jobLocation": true, "jobLocationType": true, "employmentType": true, "baseSalaryText": true,
	"datePosted": true, "datePostedText": true, "description": true, "url": true, "skills": true, "quality": true,
}

func (s *standardizer) jobs(ctx context.Context, e *doc.Envelope, content members) ([]doc.JobPosting, error) {
	var list []codec.Value
	if codec.KindOf(content["jobs"]) != '[' {
		return nil, fault.New(contract.ReasonSchema, "content.jobs is no list")
	}
	if err := codec.Unmarshal(content["jobs"], &list); err != nil {
		return nil, fault.Permanently(contract.ReasonSchema, fmt.Errorf("read content.jobs: %w", err))
	}
	places := placesByPointer(e.Enrichment)
	taken := map[string]bool{}
	out := make([]doc.JobPosting, 0, len(list))
	for i, v := range list {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("bring jobs into form: %w", err)
		}
		m, err := open(v, "content.jobs["+strconv.Itoa(i)+"]")
		if err != nil {
			return nil, err
		}
		job, err := s.job(m, places["/content/jobs/"+strconv.Itoa(i)+"/location"])
		if err != nil {
			return nil, err
		}
		job.JobID = jobID(e.Metadata.FileID, &job)
		if taken[job.JobID] {
			job.JobID += "_" + strconv.Itoa(i)
		}
		taken[job.JobID] = true
		out = append(out, job)
	}
	return out, nil
}

func placesByPointer(e *doc.Enrichment) map[string]doc.Place {
	out := map[string]doc.Place{}
	if e == nil {
		return out
	}
	for _, p := range e.Places {
		out[p.Pointer] = p
	}
	return out
}

// job brings one job into form. It takes out of m what it has understood in full; the rest
// goes along as it is.
func (s *standardizer) job(m members, place doc.Place) (doc.JobPosting, error) {
	j := doc.JobPosting{Type: typeJob}
	j.Title = text(m.take("title"))
	j.Description = text(m.take("description"))
	j.URL = text(m.take("url"))
	if name := nameOf(m.take("company", "company_name", "hiringOrganization")); name != "" {
		j.HiringOrganization = &doc.Organization{Type: typeOrganization, Name: name}
	}
	if where := locationText(m.take("location")); where != "" {
		j.JobLocation = &doc.Location{Type: typePlace, Text: where, Country: place.Country}
	}
	j.Skills = skills(m.take("skills"), s.cfg.MaxSkills)
	j.Identifier = identifier(m.take("identifier"))

	takeSalary(m, &j)
	takeEmployment(m, &j)
	takePosted(m, &j)
	takeRemote(m, place, &j)
	return j, keepRest(m, &j)
}

// takeSalary keeps pay as text. Pay in parts stays among the rest, with its text beside.
func takeSalary(m members, j *doc.JobPosting) {
	switch v := m.value("salary"); codec.KindOf(v) {
	case '"':
		j.BaseSalaryText = text(v)
		delete(m, "salary")
	case '0':
		j.BaseSalaryText = string(v)
		delete(m, "salary")
	case '{':
		parts, err := open(v, "salary")
		if err != nil {
			return
		}
		t := parts.take("text", "range", "value", "amount")
		if j.BaseSalaryText = text(t); codec.KindOf(t) == '0' {
			j.BaseSalaryText = string(t)
		}
	}
}

// takeEmployment reads the kind of employment. Words that say more than the kind, or that are
// not known, stay among the rest.
func takeEmployment(m members, j *doc.JobPosting) {
	for _, name := range []string{"job_type", "employment_type", "employmentType"} {
		t := m.text(name)
		if t == "" {
			continue
		}
		var exact bool
		if j.EmploymentType, exact = employment(t); exact {
			delete(m, name)
		}
		if name == "employmentType" && !exact {
			// The property has this name, so its text moves to the contract's.
			m["job_type"] = m[name]
		}
		return
	}
}

func takePosted(m members, j *doc.JobPosting) {
	if v := m.take("posted_at", "date_posted", "datePosted", "posting_date"); v != nil {
		j.DatePosted, j.DatePostedText = posted(text(v))
	}
}

// takeRemote sets the location type where the job says that it is done from anywhere, or its
// location does and the job does not deny it. Anything but a yes, such as "Hybrid", stays
// among the rest.
func takeRemote(m members, place doc.Place, j *doc.JobPosting) {
	says, known := remote(m["remote"])
	if says {
		delete(m, "remote")
	}
	if says || !known && place.Remote || strings.EqualFold(m.text("jobLocationType"), telecommute) {
		j.JobLocationType = telecommute
	}
}

// keepRest keeps the members that have no place in the type. null says nothing and goes.
func keepRest(m members, j *doc.JobPosting) error {
	for name := range m {
		if properties[name] || m.value(name) == nil {
			delete(m, name)
		}
	}
	if len(m) == 0 {
		return nil
	}
	rest, err := codec.Marshal(m)
	if err != nil {
		return fault.Permanently(contract.ReasonMalformed, fmt.Errorf("write the rest of a job: %w", err))
	}
	j.Extra = rest
	return nil
}

// identifier returns the source's own id, which may be text or a number.
func identifier(v codec.Value) string {
	if codec.KindOf(v) == '0' {
		return string(v)
	}
	return text(v)
}

// jobID makes the id of an extracted job of what names it, so that the same job of the same
// document always has the same one.
func jobID(fileID string, j *doc.JobPosting) string {
	var company, location string
	if j.HiringOrganization != nil {
		company = j.HiringOrganization.Name
	}
	if j.JobLocation != nil {
		location = j.JobLocation.Text
	}
	name := strings.ToLower(j.Title + "|" + company + "|" + location + "|" + j.URL)
	return fileID + "_" + doc.Sum([]byte(name))[:idDigits]
}
