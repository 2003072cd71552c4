package main

import (
	"context"

	bundlepublisherv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/bundlepublisher/v1"
	notifierv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/notifier/v1"
	"github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type bundlePublisher struct {
	base
	bundlepublisherv1.UnimplementedBundlePublisherServer
}

func (p *bundlePublisher) PublishBundle(_ context.Context, req *bundlepublisherv1.PublishBundleRequest) (*bundlepublisherv1.PublishBundleResponse, error) {
	return &bundlepublisherv1.PublishBundleResponse{}, p.record("published", req.Bundle)
}

type notifier struct {
	base
	notifierv1.UnimplementedNotifierServer
}

func (p *notifier) Notify(_ context.Context, req *notifierv1.NotifyRequest) (*notifierv1.NotifyResponse, error) {
	return &notifierv1.NotifyResponse{}, p.record("updated", req.GetBundleUpdated().GetBundle())
}

func (p *notifier) NotifyAndAdvise(_ context.Context, req *notifierv1.NotifyAndAdviseRequest) (*notifierv1.NotifyAndAdviseResponse, error) {
	if p.called().Strict {
		return nil, status.Error(codes.FailedPrecondition, "not this bundle")
	}
	return &notifierv1.NotifyAndAdviseResponse{}, p.record("loaded", req.GetBundleLoaded().GetBundle())
}

func (b *base) record(what string, bundle *types.Bundle) error {
	return b.write("%s %s %d %d", what, bundle.TrustDomain, len(bundle.X509Authorities), bundle.SequenceNumber)
}
