package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"time"

	upstreamauthorityv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/upstreamauthority/v1"
	"github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type upstream struct {
	base
	upstreamauthorityv1.UnimplementedUpstreamAuthorityServer

	key  any
	root *x509.Certificate
}

func newUpstream() *upstream {
	p := new(upstream)
	p.configured = func(s Settings) error {
		key, _ := pem.Decode([]byte(s.CaKey))
		certificate, _ := pem.Decode([]byte(s.CaCertificate))
		if key == nil || certificate == nil {
			return status.Error(codes.InvalidArgument, "ca_key and ca_certificate are required")
		}
		var err error
		if p.key, err = x509.ParsePKCS8PrivateKey(key.Bytes); err != nil {
			return err
		}
		p.root, err = x509.ParseCertificate(certificate.Bytes)
		return err
	}
	return p
}

func (p *upstream) MintX509CAAndSubscribe(
	req *upstreamauthorityv1.MintX509CARequest, stream upstreamauthorityv1.UpstreamAuthority_MintX509CAAndSubscribeServer,
) error {
	p.called()
	csr, err := x509.ParseCertificateRequest(req.Csr)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: csr.Subject, URIs: csr.URIs, NotBefore: now.Add(-10 * time.Second),
		NotAfter: now.Add(time.Duration(req.PreferredTtl) * time.Second), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca, err := x509.CreateCertificate(rand.Reader, template, p.root, csr.PublicKey, p.key)
	if err != nil {
		return err
	}
	roots := []*types.X509Certificate{{Asn1: p.root.Raw}}
	if err := stream.Send(&upstreamauthorityv1.MintX509CAResponse{X509CaChain: []*types.X509Certificate{{Asn1: ca}}, UpstreamX509Roots: roots}); err != nil {
		return err
	}
	// As a plugin that watches its roots: the stream stays open.
	<-stream.Context().Done()
	return nil
}
