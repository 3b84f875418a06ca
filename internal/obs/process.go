package obs

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// readProcess writes what the runtime and the kernel know of the process, under
// the names that Prometheus' own libraries use.
func readProcess(write func(name, help string, k kind, v float64)) {
	write("go_goroutines", "Goroutines that exist.", gaugeKind, float64(runtime.NumGoroutine()))
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(samples)
	names := []struct {
		name, help string
		kind       kind
	}{
		{"go_memstats_alloc_bytes", "Octets of live and dead objects on the heap.", gaugeKind},
		{"go_memstats_sys_bytes", "Octets obtained from the system.", gaugeKind},
		{"go_gc_cycles_total", "Garbage collections.", counterKind},
	}
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			write(names[i].name, names[i].help, names[i].kind, float64(s.Value.Uint64()))
		}
	}
	var use syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &use) == nil {
		cpu := time.Duration(use.Utime.Nano() + use.Stime.Nano())
		write("process_cpu_seconds_total", "Processor time used, in seconds.", counterKind, cpu.Seconds())
	}
	if rss, ok := residentOctets(); ok {
		write("process_resident_memory_bytes", "Resident memory in octets.", gaugeKind, float64(rss))
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		write("process_open_fds", "Open file descriptors.", gaugeKind, float64(len(fds)))
	}
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil {
		write("process_max_fds", "File descriptors that may be open.", gaugeKind, float64(lim.Cur))
	}
}

// residentOctets reads the second field of /proc/self/statm, in pages.
func residentOctets() (int64, bool) {
	text, err := os.ReadFile("/proc/self/statm")
	f := strings.Fields(string(text))
	if err != nil || len(f) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}
