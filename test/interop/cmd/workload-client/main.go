// A workload that speaks go-spiffe, as the programs do that Assay's agents must serve.
//
//	workload-client watch    prints each X.509 context and JWT bundle set, and each refusal, until it is killed
//	workload-client mtls     a server and a client, an X509Source each, over real TLS
//	workload-client serve    a TLS server over an X509Source that tells who called, or why it was refused, until it is killed
//	workload-client call     connects to such a server again and again, and tells whenever the outcome changes, until it is killed
//	workload-client jwt      fetches and validates JWT-SVIDs
//	workload-client validate asks the agent about the token on standard input
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

type options struct {
	socket   string
	audience string
	other    string
	server   string
}

func main() {
	var o options
	flags := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	flags.StringVar(&o.socket, "socket", "", "path of the agent's socket")
	flags.StringVar(&o.audience, "audience", "spiffe://example.org/audience", "audience to ask for")
	flags.StringVar(&o.other, "other", "spiffe://example.org/somebody-else", "an ID the peer does not have")
	flags.StringVar(&o.server, "server", "", "call: host:port of a server")
	if len(os.Args) < 2 {
		report.Check("usage", false, "missing command")
		os.Exit(2)
	}
	_ = flags.Parse(os.Args[2:])

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch os.Args[1] {
	case "watch":
		watch(ctx, o)
	case "mtls":
		within(ctx, func(ctx context.Context) { mtls(ctx, o) })
	case "serve":
		serveForever(ctx, o)
	case "call":
		call(ctx, o)
	case "jwt":
		within(ctx, func(ctx context.Context) { jwt(ctx, o) })
	case "validate":
		within(ctx, func(ctx context.Context) { validate(ctx, o) })
	default:
		report.Check("usage", false, "unknown command %s", os.Args[1])
		os.Exit(2)
	}
}

func within(ctx context.Context, scenario func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	scenario(ctx)
	report.Done()
}

func address(o options) workloadapi.ClientOption { return workloadapi.WithAddr("unix://" + o.socket) }
