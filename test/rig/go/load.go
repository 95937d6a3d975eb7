package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// firstSVID opens a stream, takes its first message and ends the stream.
func firstSVID(ctx context.Context, conn *grpc.ClientConn) (*workload.X509SVIDResponse, error) {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true"))
	defer cancel()
	stream, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err == nil && len(answer.Svids) == 0 {
		err = errors.New("an answer without an SVID")
	}
	return answer, err
}

// worker fetches until the deadline, from one socket after the other, as the workloads of many pods do; its first answer
// is parsed, so a wrong one does not count as fast.
func worker(ctx context.Context, sockets []string, fresh bool, deadline time.Time, record func(time.Duration)) error {
	open := make([]*grpc.ClientConn, len(sockets))
	defer func() {
		for _, conn := range open {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	for n := 0; time.Now().Before(deadline) && ctx.Err() == nil; n++ {
		start := time.Now()
		conn := &open[n%len(sockets)]
		first := *conn == nil
		if first {
			var err error
			if *conn, err = dial(sockets[n%len(sockets)]); err != nil {
				return err
			}
		}
		answer, err := firstSVID(ctx, *conn)
		if err != nil {
			return err
		}
		if fresh || !first { // with open connections, the one fetch that opened it is not meant
			record(time.Since(start))
		}
		if n == 0 {
			if _, err := x509svid.ParseRaw(answer.Svids[0].X509Svid, answer.Svids[0].X509SvidKey); err != nil {
				return err
			}
		}
		if fresh {
			(*conn).Close()
			*conn = nil
		}
	}
	return nil
}

func load(ctx context.Context, args []string) error {
	t := newTarget("load")
	mode := t.set.String("mode", "connection", "connection: a new connection each time; stream: a new stream on an open connection")
	clients := t.set.Int("clients", 1, "at the same time")
	warm := t.set.Duration("warm", 500*time.Millisecond, "not measured")
	duration := t.set.Duration("duration", 3*time.Second, "measured")
	t.parse(args)
	if *mode != "connection" && *mode != "stream" {
		return fmt.Errorf("-mode %q: want connection or stream", *mode)
	}
	sockets := strings.Split(*t.socket, ",")
	run := func(length time.Duration) ([]float64, int, string, time.Duration) {
		var mu sync.Mutex
		var all []float64
		failed, first := 0, ""
		start := time.Now()
		var wg sync.WaitGroup
		for n := range *clients {
			wg.Go(func() {
				var took []float64
				// Each worker begins with another socket.
				mine := append(slices.Clone(sockets[n%len(sockets):]), sockets[:n%len(sockets)]...)
				err := worker(ctx, mine, *mode == "connection", start.Add(length), func(d time.Duration) {
					took = append(took, float64(d.Nanoseconds())/1e6)
				})
				mu.Lock()
				defer mu.Unlock()
				all = append(all, took...)
				if err != nil {
					failed++
					first = err.Error()
				}
			})
		}
		wg.Wait()
		return all, failed, first, time.Since(start)
	}
	run(*warm)
	// The caller reads the server's CPU time between these two lines.
	emit(object{"measuring": true})
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil && err != io.EOF {
		return err
	}
	all, failed, first, wall := run(*duration)
	slices.Sort(all)
	emit(object{
		"fetches": len(all), "errors": failed, "firstError": first, "wallMs": float64(wall.Microseconds()) / 1000,
		"p50": quantile(all, 0.5), "p95": quantile(all, 0.95), "p99": quantile(all, 0.99), "max": quantile(all, 1),
	})
	return nil
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// flood opens connections and says nothing on them (or, with -preface, only "I speak HTTP/2"), then waits.
func flood(ctx context.Context, args []string) error {
	t := newTarget("flood")
	count := t.set.Int("connections", 10000, "how many")
	preface := t.set.Bool("preface", false, "send the HTTP/2 preface and SETTINGS")
	t.parse(args)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	refused, first := 0, ""
	var hello bytes.Buffer
	hello.WriteString(http2.ClientPreface)
	if err := http2.NewFramer(&hello, nil).WriteSettings(); err != nil {
		return err
	}
	for range *count {
		c, err := dialRetrying(ctx, *t.socket)
		if err == nil && *preface {
			_, err = c.Write(hello.Bytes())
		}
		if err != nil {
			refused++
			first = err.Error()
			continue
		}
		open = append(open, c)
	}
	emit(object{"opened": len(open), "refused": refused, "firstError": first})
	return waitForEnd(ctx)
}

// A full accept queue answers EAGAIN on a unix socket: that is no refusal, only "not yet".
func dialRetrying(ctx context.Context, socket string) (net.Conn, error) {
	for attempt := 0; ; attempt++ {
		c, err := net.Dial("unix", socket)
		if err == nil || !errors.Is(err, syscall.EAGAIN) || attempt == 500 || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// stall speaks HTTP/2 by hand, because a real gRPC client reads its socket even when nobody wants the messages.
func stall(ctx context.Context, args []string) error {
	t := newTarget("stall")
	streams := t.set.Int("streams", 1, "streams on the connection")
	window := t.set.Int("window", 1<<30, "flow-control window offered, so that only the socket's own buffer stops the server")
	t.parse(args)
	conn, err := net.Dial("unix", *t.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, nil)
	err = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(*window)})
	if err == nil {
		err = framer.WriteWindowUpdate(0, uint32(*window))
	}
	for i := 0; err == nil && i < *streams; i++ {
		id := uint32(2*i + 1)
		if err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: callHeaders(), EndHeaders: true}); err == nil {
			err = framer.WriteData(id, true, make([]byte, 5)) // one empty message
		}
	}
	if err != nil {
		return err
	}
	emit(object{"stalled": *streams})
	return waitForEnd(ctx)
}

func callHeaders() []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/SpiffeWorkloadAPI/FetchX509SVID"}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"workload.spiffe.io", "true"},
	} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return block.Bytes()
}

func waitForEnd(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}
