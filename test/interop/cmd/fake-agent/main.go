// A node's agent that speaks spire-api-sdk to the server's TLS port, from its join token to its ban. An administrator on the admin socket
// helps it along. It expects a server without entries.
package main

import (
	"context"
	"crypto/x509"
	"flag"
	"time"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// node is what the scenario carries from step to step.
type node struct {
	address string
	domain  spiffeid.TrustDomain
	bundle  *x509bundle.Bundle

	adminAgents  agentv1.AgentClient
	adminEntries entryv1.EntryClient
}

func main() {
	socket := flag.String("socket", "", "path of the server's admin socket")
	address := flag.String("address", "", "host:port of the server's TLS port")
	domain := flag.String("trust-domain", "example.org", "the server's trust domain")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	local, err := grpc.NewClient("unix://"+*socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	report.Must("open the admin socket", err)
	defer local.Close()
	n := node{address: *address, domain: spiffeid.RequireTrustDomainFromString(*domain),
		adminAgents: agentv1.NewAgentClient(local), adminEntries: entryv1.NewEntryClient(local)}
	n.pinBundle(ctx, bundlev1.NewBundleClient(local))

	n.refusedAttestations(ctx)
	first := n.attest(ctx)
	n.entries(ctx, first)
	second := n.renew(ctx, first)
	n.ban(ctx, second)
	n.evict(ctx, second)
	report.Done()
}

// pinBundle takes the bundle from the administrator, as an operator hands it to a node.
func (n *node) pinBundle(ctx context.Context, client bundlev1.BundleClient) {
	bundle, err := client.GetBundle(ctx, &bundlev1.GetBundleRequest{})
	report.Must("the bundle to pin", err)
	n.bundle = x509bundle.New(n.domain)
	for _, authority := range bundle.X509Authorities {
		certificate, err := x509.ParseCertificate(authority.Asn1)
		report.Must("an authority is readable", err)
		n.bundle.AddX509Authority(certificate)
	}
}
