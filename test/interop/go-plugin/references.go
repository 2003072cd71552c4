package main

import (
	"context"
	"fmt"

	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// referenceAttestor is a workload attestor that knows references alone, and of those only processes.
type referenceAttestor struct {
	base
	workloadattestorv1.UnimplementedWorkloadAttestorServer
}

func (p *referenceAttestor) AttestReference(_ context.Context, req *workloadattestorv1.AttestReferenceRequest) (*workloadattestorv1.AttestReferenceResponse, error) {
	p.called()
	if req.Reference.GetTypeUrl() != "type.googleapis.com/spiffe.broker.WorkloadPIDReference" {
		return nil, status.Errorf(codes.InvalidArgument, "no references of type %s", req.Reference.GetTypeUrl())
	}
	number, kind, n := protowire.ConsumeTag(req.Reference.Value)
	if n < 0 || number != 1 || kind != protowire.VarintType {
		return nil, status.Error(codes.InvalidArgument, "no PID")
	}
	pid, _ := protowire.ConsumeVarint(req.Reference.Value[n:])
	return &workloadattestorv1.AttestReferenceResponse{SelectorValues: []string{fmt.Sprintf("by-reference:%d", pid)}}, nil
}
