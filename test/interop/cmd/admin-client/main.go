// An administrator that speaks spire-api-sdk over the server's admin socket. Changes and lists entries, bundles and agents, and mints SVIDs,
// in ways whose answers SPIRE's own clients rely on. It expects a server without entries and without federated bundles.
package main

import (
	"context"
	"flag"
	"time"

	"assay/interop/report"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// admin is the caller: one connection, one trust domain.
type admin struct {
	connection *grpc.ClientConn
	domain     string
}

func main() {
	socket := flag.String("socket", "", "path of the server's admin socket")
	domain := flag.String("trust-domain", "example.org", "the server's trust domain")
	rpcs := flag.Bool("rpcs", false, "only print what RPCs the SDK has")
	flag.Parse()
	if *rpcs {
		listRPCs()
		report.Done()
		return
	}

	connection, err := grpc.NewClient("unix://"+*socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	report.Must("open a connection", err)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	a := admin{connection, *domain}
	a.bundles(ctx)
	a.entries(ctx)
	a.updates(ctx)
	a.deleteModes(ctx)
	a.agents(ctx)
	a.minting(ctx)
	report.Done()
}

func (a admin) id(path string) *types.SPIFFEID {
	return &types.SPIFFEID{TrustDomain: a.domain, Path: path}
}

func unixSelector(value string) *types.Selector { return &types.Selector{Type: "unix", Value: value} }
