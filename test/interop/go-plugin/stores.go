package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	svidstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/svidstore/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// store reads what it is given as SPIRE's stores do, and writes down what it was.
type store struct {
	base
	svidstorev1.UnimplementedSVIDStoreServer
}

func (p *store) PutX509SVID(_ context.Context, req *svidstorev1.PutX509SVIDRequest) (*svidstorev1.PutX509SVIDResponse, error) {
	leaf, err := x509.ParseCertificate(req.Svid.CertChain[0])
	if err != nil {
		return nil, err
	}
	if _, err := x509.ParsePKCS8PrivateKey(req.Svid.PrivateKey); err != nil {
		return nil, err
	}
	federated := make([]string, 0, len(req.FederatedBundles))
	for domain, bundle := range req.FederatedBundles {
		roots, err := x509.ParseCertificates(bundle)
		if err != nil {
			return nil, err
		}
		federated = append(federated, fmt.Sprintf("%s:%d", domain, len(roots)))
	}
	isEnd := leaf.NotAfter.Unix() == req.Svid.ExpiresAt && leaf.URIs[0].String() == req.Svid.SpiffeID
	return &svidstorev1.PutX509SVIDResponse{}, p.write("put %s %s %t %d %s", strings.Join(req.Metadata, ","), req.Svid.SpiffeID, isEnd, len(req.Svid.Bundle), strings.Join(federated, ","))
}

func (p *store) DeleteX509SVID(_ context.Context, req *svidstorev1.DeleteX509SVIDRequest) (*svidstorev1.DeleteX509SVIDResponse, error) {
	switch req.Metadata[0] {
	case "nowhere":
		return nil, status.Error(codes.InvalidArgument, "there is no such place")
	case "locked":
		return nil, status.Error(codes.Unavailable, "later")
	}
	return &svidstorev1.DeleteX509SVIDResponse{}, p.write("delete %s", strings.Join(req.Metadata, ","))
}

func (b *base) write(format string, values ...any) error {
	file, err := os.OpenFile(b.called().Record, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = fmt.Fprintf(file, format+"\n", values...)
	return err
}
