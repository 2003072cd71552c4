package main

import (
	"context"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

type seenSvid struct {
	ID       string `json:"id"`
	Hint     string `json:"hint"`
	Serial   string `json:"serial"`
	NotAfter int64  `json:"notAfter"`
}

type seen struct {
	Event   string         `json:"event"`
	Svids   []seenSvid     `json:"svids,omitempty"`
	Bundles map[string]int `json:"bundles,omitempty"`
	Code    string         `json:"code,omitempty"`
	Message string         `json:"message,omitempty"`
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(x509Context *workloadapi.X509Context) {
	line := seen{Event: "x509", Bundles: map[string]int{}}
	for _, svid := range x509Context.SVIDs {
		leaf := svid.Certificates[0]
		line.Svids = append(line.Svids, seenSvid{svid.ID.String(), svid.Hint, leaf.SerialNumber.Text(16), leaf.NotAfter.Unix()})
	}
	for _, bundle := range x509Context.Bundles.Bundles() {
		line.Bundles[bundle.TrustDomain().Name()] = len(bundle.X509Authorities())
	}
	report.Line(line)
}

func (watcher) OnX509ContextWatchError(err error) { refused("x509 refused", err) }

func (watcher) OnJWTBundlesUpdate(set *jwtbundle.Set) {
	line := seen{Event: "jwt", Bundles: map[string]int{}}
	for _, bundle := range set.Bundles() {
		line.Bundles[bundle.TrustDomain().Name()] = len(bundle.JWTAuthorities())
	}
	report.Line(line)
}

func (watcher) OnJWTBundlesWatchError(err error) { refused("jwt refused", err) }

func refused(event string, err error) {
	answer := status.Convert(err)
	report.Line(seen{Event: event, Code: answer.Code().String(), Message: answer.Message()})
}

func watch(ctx context.Context, o options) {
	client, err := workloadapi.New(ctx, address(o))
	report.Must("open a client", err)
	defer client.Close()
	go func() { _ = client.WatchJWTBundles(ctx, watcher{}) }()
	_ = client.WatchX509Context(ctx, watcher{})
}
