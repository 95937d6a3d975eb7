package main

import (
	"bufio"
	"context"
	"os"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// crowd reads the path of a socket from each line of stdin and opens an X.509 stream there, on a connection of its own, while the
// others stay open; says of each when its first SVID came. One process, so that a machine is full of streams and not of processes.
func crowd(ctx context.Context, args []string) error {
	t := newTarget("crowd")
	t.parse(args)
	ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
	failed := make(chan error)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for stdin := bufio.NewScanner(os.Stdin); stdin.Scan(); {
			lines <- stdin.Text()
		}
	}()
	for {
		select {
		case err := <-failed:
			return err
		case path, ok := <-lines:
			if !ok {
				return nil
			}
			go func() { failed <- hold(ctx, path) }()
		}
	}
}

func hold(ctx context.Context, path string) error {
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		return err
	}
	message, err := stream.Recv()
	if err != nil {
		return err
	}
	emit(object{"first": message.Svids[0].SpiffeId, "socket": path})
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}
