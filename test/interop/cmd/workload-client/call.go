package main

import (
	"context"
	"time"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// called is the outcome of calls since the last line: the first of its kind, and how many before it had another.
type called struct {
	Event   string `json:"event"`
	ID      string `json:"id,omitempty"`
	Refused string `json:"refused,omitempty"`
	After   int    `json:"after"`
}

// call connects again and again, a handshake for each, and prints a line whenever the outcome is another than the one before.
func call(ctx context.Context, o options) {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(address(o)))
	report.Must("the X509Source opens", err)
	defer source.Close()
	last, count := "", 0
	for ctx.Err() == nil {
		outcome := callOnce(ctx, source, o.server)
		if kind := outcome.ID; kind != last || count == 0 {
			outcome.After = count
			report.Line(outcome)
			last, count = kind, 0
		}
		count++
		time.Sleep(20 * time.Millisecond)
	}
}

func callOnce(ctx context.Context, source *workloadapi.X509Source, server string) called {
	state, err := exchange(ctx, server, tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeAny()))
	if err != nil {
		return called{Event: "call", Refused: err.Error()}
	}
	id, err := x509svid.IDFromCert(state.PeerCertificates[0])
	report.Must("the server's certificate carries an ID", err)
	return called{Event: "call", ID: id.String()}
}
