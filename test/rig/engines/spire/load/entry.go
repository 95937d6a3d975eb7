package main

import (
	"context"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

// entry gives processes of a user an identity, on the node of an agent.
type entry struct {
	id  spiffeid.ID
	uid int
}

// create has the server hold entries; it gives their ids, in the same order.
func (c *client) create(ctx context.Context, agent spiffeid.ID, wanted []entry) ([]string, error) {
	request := &entryv1.BatchCreateEntryRequest{}
	for _, one := range wanted {
		request.Entries = append(request.Entries, &types.Entry{
			ParentId:  sdkID(agent),
			SpiffeId:  sdkID(one.id),
			Selectors: []*types.Selector{{Type: "unix", Value: fmt.Sprintf("uid:%d", one.uid)}},
		})
	}
	made, err := entryv1.NewEntryClient(c.admin).BatchCreateEntry(ctx, request)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(wanted))
	if len(made.Results) != len(wanted) {
		return nil, fmt.Errorf("%d answers for %d entries", len(made.Results), len(wanted))
	}
	for at, result := range made.Results {
		if codes.Code(result.Status.GetCode()) != codes.OK {
			return nil, fmt.Errorf("entry %s: %s", wanted[at].id, result.Status.GetMessage())
		}
		ids[at] = result.Entry.Id
	}
	return ids, nil
}

func sdkID(id spiffeid.ID) *types.SPIFFEID {
	return &types.SPIFFEID{TrustDomain: id.TrustDomain().Name(), Path: id.Path()}
}
