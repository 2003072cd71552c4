// Command cert-manager runs the controllers of cert-manager that sign a CertificateRequest with a CA in a Secret: the one that knows issuers,
// the one that approves requests, the signer itself. Its own command is in a Go module that cannot be had from a proxy.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	"github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	"github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{Kubeconfig: os.Args[1]})
	must(err)
	shared, err := factory.Build()
	must(err)
	var running sync.WaitGroup
	for _, name := range []string{issuers.ControllerName, approver.ControllerName, ca.CRControllerName} {
		one, err := controller.Known()[name](factory)
		must(err)
		running.Go(func() { must(one.Run(1, ctx)) })
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	running.Wait()
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
