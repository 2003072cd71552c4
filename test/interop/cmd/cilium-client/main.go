// The calls that Cilium's agent and operator make of a SPIFFE provider for mutual authentication, by the libraries they use.
//
//	cilium-client operator upsert 1 2   makes or updates the entries of these identities, over mTLS with the SVID of the Workload API
//	cilium-client operator delete 1     removes them
//	cilium-client agent                 prints each set of SVIDs and of bundles, and each refusal, until it is killed; comes back as Cilium does
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	"assay/interop/report"
)

type options struct {
	domain      string
	socket      string
	server      string
	adminSocket string
}

func main() {
	var o options
	flags := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	flags.StringVar(&o.domain, "domain", "spiffe.cilium", "trust domain")
	flags.StringVar(&o.socket, "socket", "", "path of the agent's socket")
	flags.StringVar(&o.server, "server", "", "the server's host:port")
	flags.StringVar(&o.adminSocket, "adminSocket", "", "path of the agent's admin socket")
	if len(os.Args) < 2 {
		report.Check("usage", false, "missing command")
		os.Exit(2)
	}
	_ = flags.Parse(os.Args[2:])

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch words := flags.Args(); {
	case os.Args[1] == "agent":
		listen(ctx, o)
	case os.Args[1] == "operator" && len(words) > 1:
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		operate(ctx, o, words[0], words[1:])
		report.Done()
	default:
		report.Check("usage", false, "unknown command %s", os.Args[1])
		os.Exit(2)
	}
}
