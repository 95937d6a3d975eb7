package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

// node is what an attested agent has: a connection, and a CSR for each of its entries.
type node struct {
	api    svidv1.SVIDClient
	bundle *x509bundle.Bundle
	params []*svidv1.NewX509SVIDParams
	keys   []*ecdsa.PrivateKey
	ids    []spiffeid.ID
}

// attest makes this program an agent of the server with so many entries.
func (c *client) attest(ctx context.Context, td spiffeid.TrustDomain, q question) (answer, error) {
	bundle, err := c.bundle(ctx, td)
	if err != nil {
		return nil, err
	}
	own, err := c.ownSVID(ctx, q.Address, bundle)
	if err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	server := tlsconfig.AuthorizeID(spiffeid.RequireFromPath(td, "/spire/server"))
	conn, err := grpc.NewClient(q.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(tlsconfig.MTLSClientConfig(own, bundle, server))))
	if err != nil {
		return nil, err
	}
	wanted := make([]entry, q.Count)
	for at := range wanted {
		wanted[at] = entry{spiffeid.RequireFromPathf(td, "/sign/%d", at), q.FirstUID + at}
	}
	entries, err := c.create(ctx, own.ID, wanted)
	if err != nil {
		return nil, err
	}
	c.node = &node{api: svidv1.NewSVIDClient(conn), bundle: bundle}
	for at, one := range wanted {
		key, csr, err := newKey(one.id.URL())
		if err != nil {
			return nil, err
		}
		c.node.keys = append(c.node.keys, key)
		c.node.ids = append(c.node.ids, one.id)
		c.node.params = append(c.node.params, &svidv1.NewX509SVIDParams{EntryId: entries[at], Csr: csr})
	}
	return answer{}, untilSeen(ctx, entryv1.NewEntryClient(conn), q.Count)
}

// untilSeen waits until the server lets an agent have its entries, which it looks for now and then only.
func untilSeen(ctx context.Context, entries entryv1.EntryClient, count int) error {
	for {
		seen, err := entries.GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{})
		if err != nil {
			return err
		}
		if len(seen.Entries) >= count {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ownSVID attests with a join token.
func (c *client) ownSVID(ctx context.Context, address string, bundle *x509bundle.Bundle) (*x509svid.SVID, error) {
	token, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	key, csr, err := newKey(nil)
	if err != nil {
		return nil, err
	}
	server := tlsconfig.AuthorizeID(spiffeid.RequireFromPath(bundle.TrustDomain(), "/spire/server"))
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(credentials.NewTLS(tlsconfig.TLSClientConfig(bundle, server))))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stream, err := agentv1.NewAgentClient(conn).AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	params := &agentv1.AttestAgentRequest_Params{
		Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
		Params: &agentv1.AgentX509SVIDParams{Csr: csr},
	}
	step := &agentv1.AttestAgentRequest_Params_{Params: params}
	if err := stream.Send(&agentv1.AttestAgentRequest{Step: step}); err != nil {
		return nil, err
	}
	said, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if said.GetResult().GetSvid() == nil {
		return nil, errors.New("the server gave no SVID")
	}
	return svidOf(said.GetResult().Svid, key, bundle)
}

// sign has `count` SVIDs signed in batches of `size`, `atOnce` of them under way; it gives how long each batch took, in ms.
func (c *client) sign(ctx context.Context, q question) (answer, error) {
	if c.node == nil || q.Size > len(c.node.params) {
		return nil, errors.New("attest first, with as many entries as a batch has")
	}
	batches := (q.Count + q.Size - 1) / q.Size
	times := make([]float64, batches)
	var next atomic.Int64
	failed := make(chan error, q.AtOnce)
	var all sync.WaitGroup
	for range q.AtOnce {
		all.Go(func() {
			for at := next.Add(1) - 1; at < int64(batches); at = next.Add(1) - 1 {
				began := time.Now()
				if err := c.node.batch(ctx, q.Size, at == 0); err != nil {
					failed <- err
					return
				}
				times[at] = float64(time.Since(began).Microseconds()) / 1000
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
		return answer{"ms": times, "svids": batches * q.Size}, nil
	}
}

// batch has one batch signed; `check` verifies what came.
func (n *node) batch(ctx context.Context, size int, check bool) error {
	signed, err := n.api.BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{Params: n.params[:size]})
	if err != nil {
		return err
	}
	if len(signed.Results) != size {
		return fmt.Errorf("%d answers in a batch of %d", len(signed.Results), size)
	}
	for at, result := range signed.Results {
		if codes.Code(result.Status.GetCode()) != codes.OK {
			return fmt.Errorf("not signed: %s", result.Status.GetMessage())
		}
		if !check {
			continue
		}
		svid, err := svidOf(result.Svid, n.keys[at], n.bundle)
		if err != nil {
			return err
		}
		if svid.ID != n.ids[at] {
			return fmt.Errorf("an SVID of %s, not of %s", svid.ID, n.ids[at])
		}
	}
	return nil
}

// svidOf is what came with the key that it was asked for, verified.
func svidOf(signed *types.X509SVID, key *ecdsa.PrivateKey, bundle *x509bundle.Bundle) (*x509svid.SVID, error) {
	var chain []byte
	for _, der := range signed.CertChain {
		chain = append(chain, der...)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	// Looks at the ID, the extensions, and whether the key is that of the certificate.
	svid, err := x509svid.ParseRaw(chain, pkcs8)
	if err != nil {
		return nil, err
	}
	_, _, err = x509svid.Verify(svid.Certificates, bundle)
	return svid, err
}

func newKey(id *url.URL) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.CertificateRequest{}
	if id != nil {
		template.URIs = []*url.URL{id}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	return key, csr, err
}
