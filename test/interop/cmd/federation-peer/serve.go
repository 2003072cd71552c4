package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

type file struct{ path string }

func (f file) GetBundleForTrustDomain(domain spiffeid.TrustDomain) (*spiffebundle.Bundle, error) {
	return spiffebundle.Load(domain, f.path)
}

func serve(o options) {
	handler, err := federation.NewHandler(domainOf(o), file{o.document})
	report.Must("make a handler", err)
	server := http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, TLSConfig: certificate(o)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	report.Must("listen", err)
	report.Line(map[string]any{"event": "listening", "port": listener.Addr().(*net.TCPAddr).Port})
	report.Must("serve", server.ServeTLS(listener, "", ""))
}

func certificate(o options) *tls.Config {
	if o.profile == "https_spiffe" {
		svid, err := x509svid.Load(o.cert, o.key)
		report.Must("read the X509-SVID", err)
		return tlsconfig.TLSServerConfig(svid)
	}
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	report.Must("read the certificate", err)
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}
