package main

import (
	"context"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// reason is what the server tells an agent that it refuses, beside the code.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if denied, ok := detail.(*types.PermissionDeniedDetails); ok {
			return denied.Reason.String()
		}
	}
	return "none"
}

// tryCall makes a call that any attested agent may make, on a connection of its own.
func (n *node) tryCall(ctx context.Context, svid *x509svid.SVID) error {
	connection := n.dial(svid)
	defer connection.Close()
	_, err := entryv1.NewEntryClient(connection).GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{OutputMask: &types.EntryMask{RevisionNumber: true}})
	return err
}

func (n *node) renew(ctx context.Context, first *x509svid.SVID) *x509svid.SVID {
	opened := n.dial(first)
	defer opened.Close()
	client := agentv1.NewAgentClient(opened)
	_, err := client.PostStatus(ctx, &agentv1.PostStatusRequest{AgentVersion: "interop"})
	report.NoError("PostStatus", err)
	_, err = client.RenewAgent(ctx, &agentv1.RenewAgentRequest{})
	report.Code("RenewAgent refuses missing params", err, codes.InvalidArgument, "")
	_, err = client.RenewAgent(ctx, &agentv1.RenewAgentRequest{Params: &agentv1.AgentX509SVIDParams{Csr: broken(csr(p256()))}})
	report.Code("RenewAgent refuses a CSR whose signature is wrong", err, codes.InvalidArgument, "")

	key := p256()
	renewed, err := client.RenewAgent(ctx, &agentv1.RenewAgentRequest{Params: &agentv1.AgentX509SVIDParams{Csr: csr(key)}})
	report.Must("RenewAgent", err)
	second := n.accept(renewed.Svid, key)
	report.Equal("the ID stays", second.ID, first.ID)
	report.NoError("until the new SVID is used, the old one is good", n.tryCall(ctx, first))
	report.NoError("the new SVID is good", n.tryCall(ctx, second))
	err = n.tryCall(ctx, first)
	report.Code("the old one is refused from then on", err, codes.PermissionDenied, "")
	report.Equal("with the reason", reason(err), "AGENT_NOT_ACTIVE")
	_, err = client.PostStatus(ctx, &agentv1.PostStatusRequest{AgentVersion: "interop"})
	report.Equal("also on a connection opened before", reason(err), "AGENT_NOT_ACTIVE")

	seen, err := n.adminAgents.GetAgent(ctx, &agentv1.GetAgentRequest{Id: message(first.ID), OutputMask: &types.AgentMask{X509SvidSerialNumber: true, AgentVersion: true}})
	report.NoError("the administrator sees the agent", err)
	report.Equal("the new serial number", seen.GetX509SvidSerialNumber(), second.Certificates[0].SerialNumber.String())
	report.Equal("the version it posted", seen.GetAgentVersion(), "interop")
	report.Equal("nothing the mask leaves out", seen.GetAttestationType(), "")
	return second
}

func (n *node) ban(ctx context.Context, svid *x509svid.SVID) {
	count := func(banned bool) int32 {
		answer, err := n.adminAgents.CountAgents(ctx, &agentv1.CountAgentsRequest{Filter: &agentv1.CountAgentsRequest_Filter{ByBanned: wrapperspb.Bool(banned)}})
		report.Must("agents are counted", err)
		return answer.Count
	}
	opened := n.dial(svid)
	defer opened.Close()
	client := agentv1.NewAgentClient(opened)
	_, err := client.PostStatus(ctx, &agentv1.PostStatusRequest{AgentVersion: "interop"})
	report.NoError("a connection from before the ban", err)

	before := count(false)
	_, err = n.adminAgents.BanAgent(ctx, &agentv1.BanAgentRequest{Id: message(svid.ID)})
	report.NoError("BanAgent", err)
	report.Equal("one is banned", count(true), 1)
	report.Equal("one less is not", count(false), before-1)
	err = n.tryCall(ctx, svid)
	report.Code("a banned agent is refused", err, codes.PermissionDenied, "")
	report.Equal("it learns why", reason(err), "AGENT_BANNED")
	_, err = client.PostStatus(ctx, &agentv1.PostStatusRequest{AgentVersion: "interop"})
	report.Equal("also on a connection opened before", reason(err), "AGENT_BANNED")
	listed, err := n.adminAgents.ListAgents(ctx, &agentv1.ListAgentsRequest{
		Filter: &agentv1.ListAgentsRequest_Filter{ByBanned: wrapperspb.Bool(true), ByAttestationType: "join_token", ByCanReattest: wrapperspb.Bool(false)}})
	report.NoError("banned agents are listed", err)
	report.Check("it is among them", len(listed.GetAgents()) == 1 && listed.Agents[0].Banned && listed.Agents[0].Id.Path == svid.ID.Path(), "%v", listed)
}

func (n *node) evict(ctx context.Context, svid *x509svid.SVID) {
	_, err := n.adminAgents.DeleteAgent(ctx, &agentv1.DeleteAgentRequest{Id: message(svid.ID)})
	report.NoError("DeleteAgent", err)
	err = n.tryCall(ctx, svid)
	report.Code("an evicted agent is refused", err, codes.PermissionDenied, "")
	report.Equal("it learns why", reason(err), "AGENT_NOT_ATTESTED")
	_, err = n.adminAgents.GetAgent(ctx, &agentv1.GetAgentRequest{Id: message(svid.ID)})
	report.Code("its row is gone", err, codes.NotFound, "agent not found")
}
