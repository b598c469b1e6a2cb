package main

import (
	"os"
	"runtime"
)

// threadsPerCPU is how many goroutines may run Go code at the same time for each CPU. Most
// threads of a broker wait for the disk, and Go notices only after a while that such a one
// needs no CPU: with no more threads than CPUs, CPUs are idle meanwhile.
const threadsPerCPU = 4

// moreThreads makes this process run more goroutines at a time than there are CPUs, unless
// GOMAXPROCS says otherwise: it may have the whole line inside.
func moreThreads() {
	if _, set := os.LookupEnv("GOMAXPROCS"); !set {
		runtime.GOMAXPROCS(threadsPerCPU * runtime.GOMAXPROCS(0))
	}
}
