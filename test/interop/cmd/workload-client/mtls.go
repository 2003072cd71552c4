package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func mtls(ctx context.Context, o options) {
	server, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(address(o)))
	report.Must("the server's X509Source opens", err)
	defer server.Close()
	client, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(address(o)))
	report.Must("the client's X509Source opens", err)
	defer client.Close()
	own, err := client.GetX509SVID()
	report.Must("the client has an X509-SVID", err)

	_, _, err = x509svid.Verify(own.Certificates, client)
	report.NoError("go-spiffe verifies the X509-SVID with the agent's bundle", err)

	listener, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(server, server, tlsconfig.AuthorizeMemberOf(own.ID.TrustDomain())))
	report.Must("the server listens", err)
	defer listener.Close()
	served := make(chan string, 2)
	go serve(listener, served)

	other := spiffeid.RequireFromString(o.other)
	_, err = exchange(ctx, listener.Addr().String(), tlsconfig.MTLSClientConfig(client, client, tlsconfig.AuthorizeID(other)))
	report.Check("a client that expects another ID refuses the server", err != nil, "%v", err)
	<-served

	state, err := exchange(ctx, listener.Addr().String(), tlsconfig.MTLSClientConfig(client, client, tlsconfig.AuthorizeID(own.ID)))
	if report.NoError("the client accepts the server", err) {
		peer, err := x509svid.IDFromCert(state.PeerCertificates[0])
		report.Must("the server's certificate carries an ID", err)
		report.Equal("the client saw the server's ID", peer, own.ID)
		report.Equal("TLS 1.3", tls.VersionName(state.Version), "TLS 1.3")
	}
	report.Equal("the server saw the client's ID", <-served, own.ID)
}

// serve answers each connection with one byte and tells who called, or why it failed.
func serve(listener net.Listener, served chan<- string) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		served <- answer(connection.(*tls.Conn))
	}
}

// peer is one connection of serveForever.
type peer struct {
	Event   string `json:"event"`
	ID      string `json:"id,omitempty"`
	Refused string `json:"refused,omitempty"`
}

// serveForever lets in every peer that the agent's bundles vouch for.
func serveForever(ctx context.Context, o options) {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(address(o)))
	report.Must("the X509Source opens", err)
	defer source.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeAny()))
	report.Must("the server listens", err)
	defer listener.Close()
	report.Line(map[string]string{"event": "serving", "address": listener.Addr().String()})
	for ctx.Err() == nil {
		connection, err := listener.Accept()
		report.Must("a connection", err)
		outcome := answer(connection.(*tls.Conn))
		if _, err := spiffeid.FromString(outcome); err != nil {
			report.Line(peer{Event: "peer", Refused: outcome})
		} else {
			report.Line(peer{Event: "peer", ID: outcome})
		}
	}
}

func answer(connection *tls.Conn) string {
	defer connection.Close()
	if err := connection.Handshake(); err != nil {
		return err.Error()
	}
	if _, err := connection.Write([]byte{1}); err != nil {
		return err.Error()
	}
	id, err := x509svid.IDFromCert(connection.ConnectionState().PeerCertificates[0])
	if err != nil {
		return err.Error()
	}
	return id.String()
}

func exchange(ctx context.Context, server string, config *tls.Config) (tls.ConnectionState, error) {
	dialer := tls.Dialer{Config: config}
	connection, err := dialer.DialContext(ctx, "tcp", server)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer connection.Close()
	if _, err := io.ReadFull(connection, make([]byte, 1)); err != nil {
		return tls.ConnectionState{}, err
	}
	return connection.(*tls.Conn).ConnectionState(), nil
}
