package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"os"
	"slices"
	"strconv"
	"time"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

type seen struct {
	Event    string   `json:"event"`
	X509     []string `json:"x509"`
	JWT      []string `json:"jwt"`
	Sequence string   `json:"sequence"`
	Hint     float64  `json:"hint"`
	Error    string   `json:"error,omitempty"`
}

func show(bundle *spiffebundle.Bundle) {
	line := seen{Event: "bundle", X509: []string{}, JWT: []string{}}
	for _, certificate := range bundle.X509Authorities() {
		line.X509 = append(line.X509, base64.StdEncoding.EncodeToString(certificate.Raw))
	}
	for kid := range bundle.JWTAuthorities() {
		line.JWT = append(line.JWT, kid)
	}
	slices.Sort(line.JWT)
	if sequence, ok := bundle.SequenceNumber(); ok {
		line.Sequence = strconv.FormatUint(sequence, 10)
	}
	if hint, ok := bundle.RefreshHint(); ok {
		line.Hint = hint.Seconds()
	}
	report.Line(line)
}

func authentication(o options) federation.FetchOption {
	if o.profile == "https_web" {
		pool := x509.NewCertPool()
		text, err := os.ReadFile(o.roots)
		report.Must("read -roots", err)
		pool.AppendCertsFromPEM(text)
		return federation.WithWebPKIRoots(pool)
	}
	id, err := spiffeid.FromString(o.id)
	report.Must("read -id", err)
	return federation.WithSPIFFEAuth(load(id.TrustDomain(), o.roots), id)
}

func fetch(ctx context.Context, o options) {
	bundle, err := federation.FetchBundle(ctx, domainOf(o), o.url, authentication(o))
	if err != nil {
		report.Line(seen{Event: "refused", Error: err.Error()})
		return
	}
	show(bundle)
}

type watcher struct{}

func (watcher) NextRefresh(time.Duration) time.Duration { return 100 * time.Millisecond }
func (watcher) OnUpdate(bundle *spiffebundle.Bundle)    { show(bundle) }
func (watcher) OnError(err error)                       { report.Line(seen{Event: "refused", Error: err.Error()}) }

func watch(ctx context.Context, o options) {
	_ = federation.WatchBundle(ctx, domainOf(o), o.url, watcher{}, authentication(o))
}
