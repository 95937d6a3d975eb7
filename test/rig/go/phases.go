package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// phases says when the steps to the first answer of a Workload API were over, in nanoseconds since this program began: what of
// the time is whose. Each is set once.
type phases struct {
	asked     atomic.Int64 // go-spiffe asks for the first time
	connected atomic.Int64 // the socket has taken the connection, which the kernel does by itself
	sent      atomic.Int64 // the server has said its HTTP/2 settings, so the request is on its way
	answered  atomic.Int64 // the first message is here

	ranBefore, waitedBefore int64
}

// newPhases begins to count. What ran in this process before this program did is the container runtime's.
func newPhases() *phases {
	p := &phases{}
	p.ranBefore, p.waitedBefore, _ = threads()
	return p
}

func (p *phases) option() workloadapi.ClientOption {
	return workloadapi.WithDialOptions(grpc.WithStatsHandler(p))
}

func stamp(once *atomic.Int64) { once.CompareAndSwap(0, int64(time.Since(began))) }

func (p *phases) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (p *phases) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (p *phases) HandleConn(_ context.Context, event stats.ConnStats) {
	if _, ok := event.(*stats.ConnBegin); ok {
		stamp(&p.connected)
	}
}

func (p *phases) HandleRPC(_ context.Context, event stats.RPCStats) {
	switch event.(type) {
	case *stats.Begin:
		stamp(&p.asked)
	case *stats.OutHeader:
		stamp(&p.sent)
	case *stats.InPayload:
		stamp(&p.answered)
	}
}

// addTo adds the phases in milliseconds.
func (p *phases) addTo(line object) {
	for name, at := range map[string]*atomic.Int64{
		"asked": &p.asked, "connected": &p.connected, "sent": &p.sent, "answered": &p.answered,
	} {
		line[name] = milliseconds(at.Load())
	}
}

// cores is how long the threads of this program have run, and how long they could have run but had to wait for a core, since
// it began; in nanoseconds.
func (p *phases) cores() (ran, waited int64, err error) {
	ran, waited, err = threads()
	return ran - p.ranBefore, waited - p.waitedBefore, err
}

// threads sums what the kernel says of each thread of this process (/proc/PID/schedstat in its sched-stats.rst).
func threads() (ran, waited int64, err error) {
	files, err := filepath.Glob("/proc/self/task/*/schedstat")
	if err != nil {
		return 0, 0, err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return 0, 0, err
		}
		var one, other int64
		if _, err := fmt.Sscan(string(raw), &one, &other); err != nil {
			return 0, 0, err
		}
		ran, waited = ran+one, waited+other
	}
	return ran, waited, nil
}

func milliseconds(nanoseconds int64) float64 { return float64(nanoseconds/1000) / 1000 }
