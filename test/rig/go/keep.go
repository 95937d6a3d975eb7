package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/logger"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// began is when this program could first look at a clock, some milliseconds after its first instruction.
var began = time.Now()

// watched counts what the watch of an X509Source says: its log is the only place where a source tells of broken streams.
type watched struct {
	errors   atomic.Int64
	brokenAt atomic.Int64 // when the stream was lost that is not back yet; 0 while it is there
}

func (w *watched) Debugf(string, ...any) {}
func (w *watched) Infof(string, ...any)  {}
func (w *watched) Warnf(string, ...any)  {}
func (w *watched) Errorf(format string, args ...any) {
	w.errors.Add(1)
	w.brokenAt.CompareAndSwap(0, time.Now().UnixNano())
	emit(object{"watchError": fmt.Sprintf(format, args...)})
}

var _ logger.Logger = (*watched)(nil)

// back tells of a stream that has given an answer again.
func (w *watched) back() {
	if since := w.brokenAt.Swap(0); since != 0 {
		emit(object{"outage": time.Duration(time.Now().UnixNano() - since).Milliseconds()})
	}
}

// keepRunning holds an X509Source for as long as the program lives, looks at its SVID and calls over mTLS again and again, and
// says what it found: {"first"} once, {"watchError"}, {"outage"}, {"failed"} and {"invalid"} when they happen, and sums each second.
func keepRunning(ctx context.Context, args []string) error {
	t := newTarget("keep")
	serve := t.set.String("serve", "", "address on which an mTLS echo server listens")
	call := t.set.String("call", "", "host:port of an mTLS echo server to call; none: calls nobody")
	every := t.set.Duration("every", 100*time.Millisecond, "from one look and call to the next")
	t.parse(args)
	watch := &watched{}
	way := newPhases()
	options := append(t.options(), workloadapi.WithLogger(watch), way.option())
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(options...))
	if err != nil {
		return err
	}
	defer source.Close()
	if err := emitFirst(source, watch, way); err != nil {
		return err
	}
	var updates atomic.Int64
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-source.Updated():
				updates.Add(1)
				watch.back()
			}
		}
	}()
	if *serve != "" {
		mode := spiffetls.MTLSServerWithSource(tlsconfig.AuthorizeAny(), source)
		listener, err := spiffetls.ListenWithMode(ctx, "tcp", *serve, mode)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { listener.Close() })
		go answer(listener)
	}
	var calls, failures, invalid int64
	for next, sums := time.NewTicker(*every), time.NewTicker(time.Second); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-sums.C:
			emit(object{
				"authority": authorityOf(source), "calls": calls, "failures": failures, "invalidSVIDs": invalid,
				"updates": updates.Load(), "watchErrors": watch.errors.Load(), "open": watch.brokenAt.Load() == 0,
			})
		case <-next.C:
			if err := validSVID(source); err != nil {
				invalid++
				emit(object{"invalid": err.Error()})
			}
			if *call == "" {
				continue
			}
			calls++
			if err := callOnce(ctx, *call, source); err != nil && ctx.Err() == nil {
				failures++
				emit(object{"failed": err.Error()})
			}
		}
	}
}

// emitFirst says when the first SVID was there: since the program began and since its process was made, which a container
// runtime does a good while before it starts the program in it. And what became of the time.
func emitFirst(source *workloadapi.X509Source, watch *watched, way *phases) error {
	svid, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	now := time.Now()
	ran, waited, err := way.cores()
	if err != nil {
		return err
	}
	made, err := processAge()
	if err != nil {
		return err
	}
	line := object{
		"first": svid.ID.String(), "watchErrors": watch.errors.Load(),
		"sinceBegan": milliseconds(int64(now.Sub(began))), "sinceMade": made.Milliseconds(),
		"ran": milliseconds(ran), "waited": milliseconds(waited),
	}
	way.addTo(line)
	emit(line)
	return nil
}

// processAge is how long ago the process was made, to 10 ms (proc_pid_stat(5), starttime).
func processAge() (time.Duration, error) {
	raw, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, err
	}
	// Fields from the third on: the second, the program's name, may hold spaces.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	var ticks, seconds float64
	if _, err := fmt.Sscan(fields[19], &ticks); err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(string(uptime), &seconds); err != nil {
		return 0, err
	}
	return time.Duration((seconds - ticks/100) * float64(time.Second)), nil
}

// authorityOf is the key id of who signed the present SVID, or of who signed that, where there is an intermediate.
func authorityOf(source *workloadapi.X509Source) string {
	svid, err := source.GetX509SVID()
	if err != nil {
		return ""
	}
	return hex.EncodeToString(svid.Certificates[len(svid.Certificates)-1].AuthorityKeyId)
}

// validSVID checks the SVID as a peer would, against the bundle that the source has.
func validSVID(source *workloadapi.X509Source) error {
	svid, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	_, _, err = x509svid.Verify(svid.Certificates, source)
	return err
}

func callOnce(ctx context.Context, address string, source *workloadapi.X509Source) error {
	// Long: what a machine that is busy delays is no failure of an identity.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	mode := spiffetls.MTLSClientWithSource(tlsconfig.AuthorizeAny(), source)
	conn, err := spiffetls.DialWithMode(ctx, "tcp", address, mode)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := fmt.Fprintln(conn, "ping"); err != nil {
		return err
	}
	reply, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasSuffix(reply, " ping\n") {
		err = errors.New("an answer to another question: " + reply)
	}
	return err
}

func answer(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go echo(conn)
	}
}
