package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// clockTicks is how many units of CPU time Linux counts in a second; it is the same on all
// its machines.
const clockTicks = 100

// Use is what one process used while the line was measured.
type Use struct {
	PID  int     `json:"pid"`
	Name string  `json:"name"`
	CPU  float64 `json:"cpu_s"`        // seconds, of all cores together
	RSS  int64   `json:"rss_peak_kib"` // largest since the process began
}

// measure begins to look at processes and returns what ends it. Processes of which the
// system tells nothing are left out.
func measure(pids []int) func() []Use {
	before := map[int]float64{}
	for _, pid := range pids {
		before[pid], _ = cpuOf(pid)
	}
	return func() []Use {
		var all []Use
		for _, pid := range pids {
			after, err := cpuOf(pid)
			if err != nil {
				continue
			}
			u := Use{PID: pid, CPU: after - before[pid]}
			u.Name, u.RSS = statusOf(pid)
			all = append(all, u)
		}
		return all
	}
}

// cpuOf returns the CPU seconds of a process so far.
func cpuOf(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name, in brackets, may hold anything
	const userTime, systemTime = 11, 12        // counted from the field behind the name
	fields := strings.Fields(rest)
	if len(fields) <= systemTime {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	ticks := 0
	for _, f := range []string{fields[userTime], fields[systemTime]} {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return float64(ticks) / clockTicks, nil
}

// statusOf returns the name of a process and its largest resident memory in KiB.
func statusOf(pid int) (name string, peak int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", 0
	}
	for line := range strings.Lines(string(b)) {
		field, value, _ := strings.Cut(line, ":")
		switch field {
		case "Name":
			name = strings.TrimSpace(value)
		case "VmHWM":
			peak, _ = strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		}
	}
	return name, peak
}

// load returns how many processes wanted a core on average over the last minute, 0 where the
// system does not tell.
func load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	n, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return n
}
