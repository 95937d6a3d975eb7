// Command spiffe-client is a SPIFFE workload built on go-spiffe, for tests and benchmarks: the independent second opinion
// about what Signet serves. Every answer is one line of JSON on stdout; times are nanoseconds since the Unix epoch.
// A command that fails prints {"error": …, "code": gRPC status} and exits 1.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

type object = map[string]any

type command struct {
	usage string
	run   func(ctx context.Context, args []string) error
}

var commands = map[string]command{
	"x509 fetch":        {"the X.509 context, once", x509Fetch},
	"x509 watch":        {"each X.509 context as it comes; -source watches through an X509Source", x509Watch},
	"x509 bundles":      {"the X.509 bundles, once", x509Bundles},
	"jwt fetch":         {"JWT-SVIDs through a JWTSource, each validated against its bundles", jwtFetch},
	"jwt validate":      {"validates -token at the Workload API and with a JWTSource", jwtValidate},
	"jwt watch-bundles": {"each set of JWT bundles as it comes", jwtWatchBundles},
	"tls server":        {"an mTLS echo server on loopback", tlsServer},
	"tls client":        {"calls an mTLS echo server once for each line of stdin", tlsClient},
	"keep":              {"holds an X509Source, serves and calls mTLS until it is stopped, and says what went wrong", keepRunning},
	"verify-cert":       {"verifies a PEM chain against a PEM bundle with crypto/x509 and with go-spiffe", verifyCert},
	"crowd":             {"opens an X.509 stream at each socket that stdin names, and holds it", crowd},
	"load":              {"fetches the first X.509-SVID over and over, many at a time", load},
	"flood":             {"opens many connections and leaves them until stdin ends", flood},
	"stall":             {"opens X.509 streams and never reads a byte, until stdin ends", stall},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	name, rest := "", os.Args[1:]
	for n := 2; n >= 1; n-- {
		if len(rest) < n {
			continue
		}
		key := rest[0]
		if n == 2 {
			key += " " + rest[1]
		}
		if _, ok := commands[key]; ok {
			name, rest = key, rest[n:]
			break
		}
	}
	c, ok := commands[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: spiffe-client COMMAND [flags]")
		for key, c := range commands {
			fmt.Fprintf(os.Stderr, "  %-18s %s\n", key, c.usage)
		}
		os.Exit(2)
	}
	if err := c.run(ctx, rest); err != nil && !(ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		emit(failure(err))
		os.Exit(1)
	}
}

var output sync.Mutex

func emit(o object) {
	o["at"] = time.Now().UnixNano()
	line, err := json.Marshal(o)
	if err != nil {
		panic(err) // only values that JSON has are put in
	}
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func failure(err error) object {
	return object{"error": err.Error(), "code": status.Code(err).String()}
}

// flags every command that calls the Workload API has.
type target struct {
	set     *flag.FlagSet
	socket  *string
	timeout *time.Duration
}

func newTarget(name string) target {
	set := flag.NewFlagSet(name, flag.ExitOnError)
	return target{
		set:     set,
		socket:  set.String("socket", "", "path of the Workload API socket (load: several, comma separated); unset: SPIFFE_ENDPOINT_SOCKET"),
		timeout: set.Duration("timeout", 15*time.Second, "for commands that end by themselves"),
	}
}

func (t target) parse(args []string) { _ = t.set.Parse(args) }

func (t target) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, *t.timeout)
}

func (t target) options() []workloadapi.ClientOption {
	if *t.socket == "" {
		return nil
	}
	return []workloadapi.ClientOption{workloadapi.WithAddr("unix://" + *t.socket)}
}

func (t target) client(ctx context.Context) (*workloadapi.Client, error) {
	return workloadapi.New(ctx, t.options()...)
}
