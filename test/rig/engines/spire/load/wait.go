package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// wait creates one entry after the other for workloads that run already, and gives for each how long after the request for its
// entry was sent the workload had its SVID, in ms.
func (c *client) wait(ctx context.Context, q question) (answer, error) {
	agent, err := spiffeid.FromString(q.Agent)
	if err != nil {
		return nil, err
	}
	retry := time.Duration(q.RetryMs * float64(time.Millisecond))
	between := time.Duration(float64(time.Second) / q.PerSecond)
	times := make([]float64, q.Count)
	failed := make(chan error, q.Count)
	var all sync.WaitGroup
	for at := range q.Count {
		one := entry{spiffeid.RequireFromPathf(agent.TrustDomain(), "/wait/%d", q.FirstUID+at), q.FirstUID + at}
		ready, come, err := startWorkload(ctx, q.AgentSocket, one, retry)
		if err != nil {
			return nil, err
		}
		all.Go(func() {
			<-ready
			time.Sleep(time.Duration(at) * between)
			sent := time.Now()
			if _, err := c.create(ctx, agent, []entry{one}); err != nil {
				failed <- err
				return
			}
			result := <-come
			if result.err != nil {
				failed <- result.err
				return
			}
			times[at] = float64(result.at.Sub(sent).Microseconds()) / 1000
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
		return answer{"ms": times}, nil
	}
}

type came struct {
	at  time.Time
	err error
}

// startWorkload runs this program as the user of the entry; says when the workload asks, and when it has its SVID.
func startWorkload(ctx context.Context, socket string, one entry, retry time.Duration) (<-chan struct{}, <-chan came, error) {
	// Not by its path, which other users may not be able to follow.
	command := exec.CommandContext(ctx, "/proc/self/exe", "workload", socket)
	user := uint32(one.uid)
	command.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: user, Gid: user},
		Pdeathsig:  syscall.SIGKILL,
	}
	command.Dir = "/"
	command.Env = []string{"RETRY=" + retry.String(), "GOMAXPROCS=1"}
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := command.Start(); err != nil {
		return nil, nil, err
	}
	ready, come := make(chan struct{}), make(chan came, 1)
	go func() {
		lines := bufio.NewScanner(out)
		lines.Scan()
		close(ready)
		lines.Scan()
		at := time.Now()
		if id := strings.TrimSpace(lines.Text()); id != one.id.String() {
			come <- came{err: fmt.Errorf("a workload has %q, not %s", id, one.id)}
		} else {
			come <- came{at: at}
		}
		_ = command.Wait()
	}()
	return ready, come, nil
}

// waitAsWorkload asks again and again for an X.509-SVID, and says what its SPIFFE ID is.
func waitAsWorkload(socket string) error {
	retry, err := time.ParseDuration(os.Getenv("RETRY"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	api := workload.NewSpiffeWorkloadAPIClient(conn)
	conn.Connect()
	fmt.Println("ready")
	for {
		if id := firstID(ctx, api); id != "" {
			fmt.Println(id)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
	}
}

// firstID is empty as long as there is no identity.
func firstID(ctx context.Context, api workload.SpiffeWorkloadAPIClient) string {
	stream, err := api.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		return ""
	}
	message, err := stream.Recv()
	if err != nil || len(message.Svids) == 0 {
		return ""
	}
	return message.Svids[0].SpiffeId
}
