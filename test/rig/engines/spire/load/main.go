// Program spire-load measures SPIRE's server and agent: it answers each line of JSON on its stdin with one on its stdout. As
// `spire-load workload SOCKET` it is a workload that waits for its identity.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
)

type question struct {
	Do          string `json:"do"`
	TrustDomain string `json:"trustDomain"`
	// Socket is the server's admin socket.
	Socket string `json:"socket"`
	// Address is host:port of the server.
	Address string `json:"address"`

	AgentSocket string  `json:"agentSocket"`
	Agent       string  `json:"agent"`
	Count       int     `json:"count"`
	PerSecond   float64 `json:"perSecond"`
	RetryMs     float64 `json:"retryMs"`
	FirstUID    int     `json:"firstUid"`

	Size   int `json:"size"`
	AtOnce int `json:"atOnce"`
}

type answer map[string]any

// limit is the longest that one answer may take.
const limit = 3 * time.Minute

// client keeps what later questions need of earlier ones.
type client struct {
	admin *grpc.ClientConn
	node  *node
}

func main() {
	var err error
	if len(os.Args) == 3 && os.Args[1] == "workload" {
		err = waitAsWorkload(os.Args[2])
	} else {
		err = answerLines()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "spire-load:", err)
		os.Exit(1)
	}
}

func answerLines() error {
	c := &client{}
	lines := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		given, err := c.answer(q)
		if err != nil {
			given = answer{"error": err.Error()}
		}
		if err := out.Encode(given); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (c *client) answer(q question) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if c.admin == nil {
		admin, err := grpc.NewClient("unix://"+q.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		c.admin = admin
	}
	td, err := spiffeid.TrustDomainFromString(q.TrustDomain)
	if err != nil {
		return nil, err
	}
	switch q.Do {
	case "bundle":
		return c.bundlePEM(ctx, td)
	case "token":
		token, err := c.token(ctx)
		return answer{"token": token, "agent": fmt.Sprintf("%s/spire/agent/join_token/%s", td.IDString(), token)}, err
	case "wait":
		return c.wait(ctx, q)
	case "attest":
		return c.attest(ctx, td, q)
	case "sign":
		return c.sign(ctx, q)
	}
	return nil, fmt.Errorf("nothing to do is called %q", q.Do)
}

func (c *client) bundle(ctx context.Context, td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	found, err := bundlev1.NewBundleClient(c.admin).GetBundle(ctx, &bundlev1.GetBundleRequest{})
	if err != nil {
		return nil, err
	}
	var raw []byte
	for _, authority := range found.X509Authorities {
		raw = append(raw, authority.Asn1...)
	}
	if len(raw) == 0 {
		return nil, errors.New("the bundle is empty")
	}
	return x509bundle.ParseRaw(td, raw)
}

func (c *client) bundlePEM(ctx context.Context, td spiffeid.TrustDomain) (answer, error) {
	bundle, err := c.bundle(ctx, td)
	if err != nil {
		return nil, err
	}
	text := ""
	for _, authority := range bundle.X509Authorities() {
		text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw}))
	}
	return answer{"pem": text}, nil
}

func (c *client) token(ctx context.Context) (string, error) {
	made, err := agentv1.NewAgentClient(c.admin).CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 600})
	if err != nil {
		return "", err
	}
	return made.Value, nil
}
