package main

import (
	"context"

	credentialcomposerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/credentialcomposer/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// composer has methods for workloads alone, and one for agents that answers nothing.
type composer struct {
	base
	credentialcomposerv1.UnimplementedCredentialComposerServer
}

func (p *composer) ComposeAgentX509SVID(context.Context, *credentialcomposerv1.ComposeAgentX509SVIDRequest) (*credentialcomposerv1.ComposeAgentX509SVIDResponse, error) {
	p.called()
	return &credentialcomposerv1.ComposeAgentX509SVIDResponse{}, nil
}

func (p *composer) ComposeWorkloadX509SVID(_ context.Context, req *credentialcomposerv1.ComposeWorkloadX509SVIDRequest) (*credentialcomposerv1.ComposeWorkloadX509SVIDResponse, error) {
	s := p.called()
	if s.Strict {
		return nil, status.Error(codes.PermissionDenied, "not this workload")
	}
	attributes := req.Attributes
	attributes.Subject.OrganizationalUnit = append(attributes.Subject.OrganizationalUnit, s.Label)
	attributes.Subject.ExtraNames = append(attributes.Subject.ExtraNames, &credentialcomposerv1.AttributeTypeAndValue{Oid: "2.5.4.45", StringValue: req.SpiffeId})
	attributes.DnsSans = append(attributes.DnsSans, s.Names...)
	attributes.ExtraExtensions = append(attributes.ExtraExtensions, &credentialcomposerv1.X509Extension{Oid: "1.3.6.1.4.1.32473.1", Value: []byte{4, 1, 7}})
	return &credentialcomposerv1.ComposeWorkloadX509SVIDResponse{Attributes: attributes}, nil
}

func (p *composer) ComposeWorkloadJWTSVID(_ context.Context, req *credentialcomposerv1.ComposeWorkloadJWTSVIDRequest) (*credentialcomposerv1.ComposeWorkloadJWTSVIDResponse, error) {
	req.Attributes.Claims.Fields["label"] = structpb.NewStringValue(p.called().Label)
	return &credentialcomposerv1.ComposeWorkloadJWTSVIDResponse{Attributes: req.Attributes}, nil
}
