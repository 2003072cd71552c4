package main

import (
	"context"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

var selectors = []*types.Selector{{Type: "cilium", Value: "mutual-auth"}}

// operate does what the operator does for each identity that appears or goes.
func operate(ctx context.Context, o options, what string, identities []string) {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+o.socket)))
	report.Must("the operator's own SVID", err)
	defer source.Close()
	domain := spiffeid.RequireTrustDomainFromString(o.domain)
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeMemberOf(domain))
	connection, err := grpc.NewClient(o.server, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	report.Must("a connection to the server", err)
	defer connection.Close()
	client := entryv1.NewEntryClient(connection)
	for _, identity := range identities {
		if what == "delete" {
			remove(ctx, client, o, identity)
		} else {
			upsert(ctx, client, o, identity)
		}
	}
}

func list(ctx context.Context, client entryv1.EntryClient, o options, identity string) (*entryv1.ListEntriesResponse, error) {
	return client.ListEntries(ctx, &entryv1.ListEntriesRequest{
		Filter: &entryv1.ListEntriesRequest_Filter{
			BySpiffeId: &types.SPIFFEID{TrustDomain: o.domain, Path: "/identity/" + identity},
			ByParentId: &types.SPIFFEID{TrustDomain: o.domain, Path: "/cilium-operator"},
			BySelectors: &types.SelectorMatch{
				Selectors: selectors,
				Match:     types.SelectorMatch_MATCH_EXACT,
			},
		},
	})
}

// upsert looks first; its update names no entry id, and what becomes of single entries is not looked at.
func upsert(ctx context.Context, client entryv1.EntryClient, o options, identity string) {
	entries, err := list(ctx, client, o, identity)
	report.NoError("the entries of identity "+identity+" are listed", err)
	desired := []*types.Entry{{
		SpiffeId:  &types.SPIFFEID{TrustDomain: o.domain, Path: "/identity/" + identity},
		ParentId:  &types.SPIFFEID{TrustDomain: o.domain, Path: "/cilium-operator"},
		Selectors: selectors,
	}}
	if len(entries.GetEntries()) == 0 {
		_, err = client.BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{Entries: desired})
		report.NoError("identity "+identity+" is created", err)
		return
	}
	_, err = client.BatchUpdateEntry(ctx, &entryv1.BatchUpdateEntryRequest{Entries: desired})
	report.NoError("identity "+identity+" is updated", err)
}

func remove(ctx context.Context, client entryv1.EntryClient, o options, identity string) {
	entries, err := list(ctx, client, o, identity)
	report.NoError("the entries of identity "+identity+" are listed", err)
	ids := []string{}
	for _, entry := range entries.GetEntries() {
		ids = append(ids, entry.Id)
	}
	report.Equal("there is one", len(ids), 1)
	_, err = client.BatchDeleteEntry(ctx, &entryv1.BatchDeleteEntryRequest{Ids: ids})
	report.NoError("identity "+identity+" is deleted", err)
}
