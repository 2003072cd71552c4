// A partner that speaks go-spiffe's federation package, on either end.
//
//	federation-peer fetch   fetches a bundle once, prints what is in it, or why it was refused
//	federation-peer watch   prints each bundle that WatchBundle tells of, and each error, until it is killed
//	federation-peer serve   serves the bundle in -document, read anew for each request, until it is killed
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

type options struct {
	domain   string
	url      string
	profile  string
	id       string
	roots    string
	document string
	cert     string
	key      string
}

func main() {
	var o options
	flags := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	flags.StringVar(&o.domain, "domain", "", "whose bundle it is")
	flags.StringVar(&o.url, "url", "", "where it is fetched")
	flags.StringVar(&o.profile, "profile", "https_web", "https_web or https_spiffe")
	flags.StringVar(&o.id, "id", "", "https_spiffe: the endpoint's SPIFFE ID")
	flags.StringVar(&o.roots, "roots", "", "https_web: file with the web's CA; https_spiffe: file with the bundle of the ID's trust domain")
	flags.StringVar(&o.document, "document", "", "serve: file with the bundle")
	flags.StringVar(&o.cert, "cert", "", "serve: file with the certificate chain or the X509-SVID")
	flags.StringVar(&o.key, "key", "", "serve: file with its key")
	if len(os.Args) < 2 {
		report.Check("usage", false, "missing command")
		os.Exit(2)
	}
	_ = flags.Parse(os.Args[2:])

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch os.Args[1] {
	case "fetch":
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		fetch(ctx, o)
		report.Done()
	case "watch":
		watch(ctx, o)
	case "serve":
		serve(o)
	default:
		report.Check("usage", false, "unknown command %s", os.Args[1])
		os.Exit(2)
	}
}

func domainOf(o options) spiffeid.TrustDomain {
	domain, err := spiffeid.TrustDomainFromString(o.domain)
	report.Must("read -domain", err)
	return domain
}

func load(domain spiffeid.TrustDomain, path string) *spiffebundle.Bundle {
	bundle, err := spiffebundle.Load(domain, path)
	report.Must("read "+path, err)
	return bundle
}
