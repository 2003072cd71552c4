package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"slices"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
)

// dial opens a connection on which only the server's own ID is accepted; without an SVID it shows no certificate.
func (n *node) dial(svid *x509svid.SVID) *grpc.ClientConn {
	server := tlsconfig.AuthorizeID(spiffeid.RequireFromPath(n.domain, "/spire/server"))
	config := tlsconfig.TLSClientConfig(n.bundle, server)
	if svid != nil {
		config = tlsconfig.MTLSClientConfig(svid, n.bundle, server)
	}
	connection, err := grpc.NewClient("passthrough:///"+n.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	report.Must("open a connection", err)
	return connection
}

func (n *node) token(ctx context.Context) string {
	token, err := n.adminAgents.CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 300})
	report.Must("a join token", err)
	return token.Value
}

// attestWith runs one AttestAgent stream to its end.
func (n *node) attestWith(ctx context.Context, request *agentv1.AttestAgentRequest) (*agentv1.AttestAgentResponse_Result, error) {
	connection := n.dial(nil)
	defer connection.Close()
	stream, err := agentv1.NewAgentClient(connection).AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(request); err != nil && err != io.EOF {
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	_ = stream.CloseSend()
	if _, err := stream.Recv(); err != io.EOF {
		return nil, fmt.Errorf("the stream did not end after the result: %v", err)
	}
	return answer.GetResult(), nil
}

func joinRequest(token string, csr []byte) *agentv1.AttestAgentRequest {
	return &agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: &agentv1.AttestAgentRequest_Params{
		Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
		Params: &agentv1.AgentX509SVIDParams{Csr: csr},
	}}}
}

func (n *node) refusedAttestations(ctx context.Context) {
	token := n.token(ctx)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	report.Must("a P-224 key", err)
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	report.Must("an RSA-1024 key", err)
	unknown := joinRequest(token, csr(p256()))
	unknown.GetParams().Data.Type = "no_such_attestor"
	headless := joinRequest(token, csr(p256()))
	headless.GetParams().Data = nil
	for _, row := range []struct {
		name    string
		request *agentv1.AttestAgentRequest
		code    codes.Code
		message string
	}{
		{"a token nobody made", joinRequest("nobody-made-this", csr(p256())), codes.InvalidArgument, ""},
		{"a CSR whose signature is wrong", joinRequest(token, broken(csr(p256()))), codes.InvalidArgument, ""},
		{"a P-224 key", joinRequest(token, csr(p224)), codes.InvalidArgument, ""},
		{"an RSA-1024 key", joinRequest(token, csr(rsa1024)), codes.InvalidArgument, ""},
		{"no CSR", joinRequest(token, nil), codes.InvalidArgument, "malformed param: missing CSR"},
		{"no payload", joinRequest("", csr(p256())), codes.InvalidArgument, "malformed param: missing attestation data payload"},
		{"no attestation data", headless, codes.InvalidArgument, "malformed param: missing attestation data"},
		{"no params", &agentv1.AttestAgentRequest{}, codes.InvalidArgument, "malformed param: missing params"},
		{"an unknown attestor", unknown, codes.FailedPrecondition, ""},
	} {
		_, err := n.attestWith(ctx, row.request)
		report.Code("AttestAgent refuses "+row.name, err, row.code, row.message)
	}
	// The refusals above did not use the token up.
	_, err = n.attestWith(ctx, joinRequest(token, csr(p256())))
	report.NoError("the token is still good", err)
}

func (n *node) attest(ctx context.Context) *x509svid.SVID {
	token, key := n.token(ctx), p256()
	result, err := n.attestWith(ctx, joinRequest(token, csr(key)))
	report.Must("AttestAgent", err)
	report.Check("a join token does not attest twice, and the server says so", !result.Reattestable, "")
	svid := n.accept(result.Svid, key)
	report.Equal("the agent's ID", svid.ID, "spiffe://"+n.domain.Name()+"/spire/agent/join_token/"+token)
	_, err = n.attestWith(ctx, joinRequest(token, csr(p256())))
	report.Code("a used token is refused", err, codes.InvalidArgument, "")

	anonymous := n.dial(nil)
	defer anonymous.Close()
	bundle, err := bundlev1.NewBundleClient(anonymous).GetBundle(ctx, &bundlev1.GetBundleRequest{})
	report.NoError("GetBundle without a certificate", err)
	report.Check("it is the pinned one", len(bundle.GetX509Authorities()) == len(n.bundle.X509Authorities()), "%d authorities", len(bundle.GetX509Authorities()))
	_, err = bundlev1.NewBundleClient(anonymous).CountBundles(ctx, &bundlev1.CountBundlesRequest{})
	report.Code("nothing else without a certificate", err, codes.PermissionDenied, "authorization denied for method /spire.api.server.bundle.v1.Bundle/CountBundles")

	seen, err := n.adminAgents.GetAgent(ctx, &agentv1.GetAgentRequest{Id: message(svid.ID)})
	report.NoError("the administrator sees the agent", err)
	report.Equal("its attestation type", seen.GetAttestationType(), "join_token")
	report.Equal("its serial number", seen.GetX509SvidSerialNumber(), svid.Certificates[0].SerialNumber.String())
	report.Equal("its end", seen.GetX509SvidExpiresAt(), svid.Certificates[0].NotAfter.Unix())
	return svid
}

// accept verifies what the server signed as an agent does.
func (n *node) accept(signed *types.X509SVID, key crypto.Signer) *x509svid.SVID {
	certificates, err := x509.ParseCertificates(slices.Concat(signed.CertChain...))
	report.Must("the chain is readable", err)
	id, _, err := x509svid.Verify(certificates, n.bundle)
	report.Must("go-spiffe verifies the agent's SVID", err)
	report.Equal("the chain's ID is the one told", id.String(), "spiffe://"+signed.Id.TrustDomain+signed.Id.Path)
	report.Equal("its end is the one told", certificates[0].NotAfter.Unix(), signed.ExpiresAt)
	return &x509svid.SVID{ID: id, Certificates: certificates, PrivateKey: key}
}

func message(id spiffeid.ID) *types.SPIFFEID {
	return &types.SPIFFEID{TrustDomain: id.TrustDomain().Name(), Path: id.Path()}
}

func p256() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	report.Must("a P-256 key", err)
	return key
}

func csr(key crypto.Signer) []byte {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	report.Must("a certificate request", err)
	return der
}

func broken(der []byte) []byte {
	der[len(der)-1] ^= 1
	return der
}
