// openload sends HTTP/1.1 requests at a fixed rate, whether or not the answers keep up (an open loop), and tells how long
// answers took from the moment when each request was due. One JSON object a line on stdin is a run; its result, a line.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type run struct {
	// `tcp` or `unix`, and where.
	Network, Address string
	// PEM; mutual TLS where they are given. Whom the server's certificate names is not checked.
	Cert, Key string
	// Whole requests, sent in turn.
	Requests []string
	// What each must be answered with.
	Status      int
	PerSecond   int
	Connections int
	// Requests before those that are measured, and those.
	Warm, Count int
}

type result struct {
	// Milliseconds.
	P50, P99, Max float64
	// How late requests were sent that a free connection could have taken at once.
	LateP99 float64
	Errors  int
	Error   string
}

type job struct {
	at   time.Time
	data string
	n    int
}

type shot struct {
	took, late time.Duration
	err        error
}

func main() {
	// What is measured is the server, not this program's collector.
	debug.SetGCPercent(-1)
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for {
		var r run
		if err := in.Decode(&r); err == io.EOF {
			return
		} else if err != nil {
			fatal(err)
		}
		answer, err := r.do()
		if err != nil {
			fatal(err)
		}
		if err := out.Encode(answer); err != nil {
			fatal(err)
		}
		runtime.GC()
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "openload:", err)
	os.Exit(1)
}

func (r run) do() (result, error) {
	shots := make([]shot, r.Warm+r.Count)
	jobs := make(chan job, len(shots))
	var done sync.WaitGroup
	for range r.Connections {
		conn, err := r.dial()
		if err != nil {
			return result{}, err
		}
		done.Go(func() {
			defer conn.Close()
			reader := bufio.NewReader(conn)
			for j := range jobs {
				sent := time.Now()
				status, err := exchange(conn, reader, j.data)
				if err == nil && status != r.Status {
					err = fmt.Errorf("answered %d, not %d", status, r.Status)
				}
				shots[j.n] = shot{took: time.Since(j.at), late: sent.Sub(j.at), err: err}
			}
		})
	}
	r.pace(jobs, len(shots))
	done.Wait()
	return summary(shots[r.Warm:]), nil
}

// pace hands out requests when they are due. Go's own timers are a millisecond coarse, so a thread of its own sleeps.
func (r run) pace(jobs chan<- job, count int) {
	defer close(jobs)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const prSetTimerSlack = 29 // prctl(2): to the nanosecond, not to 50 µs
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, 1, 0)
	interval := time.Second / time.Duration(r.PerSecond)
	start := time.Now().Add(10 * time.Millisecond)
	for n := range count {
		due := start.Add(time.Duration(n) * interval)
		if wait := time.Until(due); wait > 0 {
			span := syscall.NsecToTimespec(wait.Nanoseconds())
			_ = syscall.Nanosleep(&span, nil)
		}
		jobs <- job{at: due, data: r.Requests[n%len(r.Requests)], n: n}
	}
}

func (r run) dial() (net.Conn, error) {
	if r.Cert == "" {
		return net.Dial(r.Network, r.Address)
	}
	pair, err := tls.X509KeyPair([]byte(r.Cert), []byte(r.Key))
	if err != nil {
		return nil, err
	}
	conn, err := tls.Dial(r.Network, r.Address, &tls.Config{
		Certificates:       []tls.Certificate{pair},
		InsecureSkipVerify: true,
	})
	if err != nil {
		return nil, err
	}
	return conn, conn.Handshake()
}

// exchange sends one request and reads its answer to the end.
func exchange(conn net.Conn, reader *bufio.Reader, request string) (status int, err error) {
	if _, err = io.WriteString(conn, request); err != nil {
		return 0, err
	}
	length := 0
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			break
		}
		if first {
			if len(text) < 12 {
				return 0, fmt.Errorf("answered %q", text)
			}
			if status, err = strconv.Atoi(text[9:12]); err != nil {
				return 0, err
			}
		} else if name, value, _ := strings.Cut(text, ":"); strings.EqualFold(name, "content-length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, err
			}
		}
	}
	_, err = reader.Discard(length)
	return status, err
}

func summary(shots []shot) result {
	var took, late []time.Duration
	var answer result
	for _, s := range shots {
		if s.err != nil {
			answer.Errors++
			answer.Error = s.err.Error()
			continue
		}
		took = append(took, s.took)
		late = append(late, s.late)
	}
	if len(took) == 0 {
		return answer
	}
	slices.Sort(took)
	slices.Sort(late)
	at := func(all []time.Duration, share float64) float64 {
		return float64(all[int(share*float64(len(all)-1))].Nanoseconds()) / 1e6
	}
	answer.P50, answer.P99, answer.Max = at(took, 0.5), at(took, 0.99), at(took, 1)
	answer.LateP99 = at(late, 0.99)
	return answer
}
