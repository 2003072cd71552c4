package main

import (
	"context"

	"assay/interop/report"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// agents checks what an administrator can ask while no node has attested; cmd/fake-agent does the rest.
func (a admin) agents(ctx context.Context) {
	client := agentv1.NewAgentClient(a.connection)
	_, err := client.CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{})
	report.Code("a join token without ttl", err, codes.InvalidArgument, "ttl is required, you must provide one")
	named, err := client.CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 60, Token: "the-token", AgentId: a.id("/rack/7")})
	report.NoError("a join token of a given value", err)
	report.Equal("it has that value", named.GetValue(), "the-token")
	_, err = client.CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 60, Token: "the-token"})
	report.Code("the same token again", err, codes.Internal, "")
	_, err = client.CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 60, AgentId: a.id("/spire/agent/x")})
	report.Code("a reserved alias", err, codes.InvalidArgument, "")

	alias, err := entryv1.NewEntryClient(a.connection).ListEntries(ctx, &entryv1.ListEntriesRequest{
		Filter: &entryv1.ListEntriesRequest_Filter{BySpiffeId: a.id("/rack/7")},
	})
	report.NoError("the alias entry is listed", err)
	node := "spiffe://" + a.domain + "/spire/agent/join_token/the-token"
	if entries := alias.GetEntries(); len(entries) == 1 {
		report.Equal("its parent is the agent", entries[0].ParentId, a.id("/spire/agent/join_token/the-token"))
		report.Equal("its selector is the agent's ID", entries[0].Selectors, []*types.Selector{{Type: "spiffe_id", Value: node}})
	} else {
		report.Check("one alias entry", false, "%d", len(entries))
	}

	for name, id := range map[string]*types.SPIFFEID{"a workload's ID": a.id("/workload"), "no ID": nil, "a foreign agent": {TrustDomain: "foreign.example", Path: "/spire/agent/x"}} {
		_, err = client.GetAgent(ctx, &agentv1.GetAgentRequest{Id: id})
		report.Code("no agent has "+name, err, codes.InvalidArgument, "")
	}
	absent := a.id("/spire/agent/join_token/nowhere")
	_, err = client.GetAgent(ctx, &agentv1.GetAgentRequest{Id: absent})
	report.Code("an agent that is not there cannot be got", err, codes.NotFound, "agent not found")
	_, err = client.BanAgent(ctx, &agentv1.BanAgentRequest{Id: absent})
	report.Code("nor banned", err, codes.NotFound, "")
	_, err = client.DeleteAgent(ctx, &agentv1.DeleteAgentRequest{Id: absent})
	report.Code("nor evicted", err, codes.NotFound, "")
	_, err = client.ListAgents(ctx, &agentv1.ListAgentsRequest{Filter: &agentv1.ListAgentsRequest_Filter{BySelectorMatch: &types.SelectorMatch{}}})
	report.Code("an empty selector set is refused", err, codes.InvalidArgument, "")
	_, err = client.RenewAgent(ctx, &agentv1.RenewAgentRequest{})
	report.Code("an administrator is no agent", err, codes.PermissionDenied, "authorization denied for method /spire.api.server.agent.v1.Agent/RenewAgent")
}
