package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"time"

	metricsv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/common/metrics/v1"
	identityproviderv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/server/identityprovider/v1"
)

// measure uses each method of the host service once.
func measure(ctx context.Context, metrics *metricsv1.MetricsServiceClient, label string) error {
	labels := []*metricsv1.Label{{Name: "label", Value: label}}
	if _, err := metrics.IncrCounter(ctx, &metricsv1.IncrCounterRequest{Key: []string{"acme", "asked"}, Val: 2, Labels: labels}); err != nil {
		return err
	}
	if _, err := metrics.SetGauge(ctx, &metricsv1.SetGaugeRequest{Key: []string{"acme", "queue.length"}, Val: 2.5}); err != nil {
		return err
	}
	if _, err := metrics.AddSample(ctx, &metricsv1.AddSampleRequest{Key: []string{"acme", "size"}, Val: 7, Labels: labels}); err != nil {
		return err
	}
	since := time.Now().Add(-time.Minute).UnixNano()
	if _, err := metrics.MeasureSince(ctx, &metricsv1.MeasureSinceRequest{Key: []string{"acme", "elapsed_time"}, Time: since}); err != nil {
		return err
	}
	_, err := metrics.EmitKey(ctx, &metricsv1.EmitKeyRequest{Key: []string{"acme", "key"}, Val: 1})
	return err
}

// identify says who the server is by what it gave: a certificate below its bundle, and its key.
func identify(ctx context.Context, host *identityproviderv1.IdentityProviderServiceClient) (string, error) {
	resp, err := host.FetchX509Identity(ctx, &identityproviderv1.FetchX509IdentityRequest{})
	if err != nil {
		return "", err
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, authority := range resp.Bundle.X509Authorities {
		root, err := x509.ParseCertificate(authority.Asn1)
		if err != nil {
			return "", err
		}
		roots.AddCert(root)
	}
	var chain []*x509.Certificate
	for _, der := range resp.Identity.CertChain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return "", err
		}
		intermediates.AddCert(certificate)
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return "", errors.New("the server has no certificate")
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if _, err := chain[0].Verify(options); err != nil {
		return "", err
	}
	key, err := x509.ParsePKCS8PrivateKey(resp.Identity.PrivateKey)
	if err != nil {
		return "", err
	}
	own, err := x509.MarshalPKIXPublicKey(publicOf(key))
	if err != nil {
		return "", err
	}
	if !bytes.Equal(own, chain[0].RawSubjectPublicKeyInfo) {
		return "", errors.New("the key is another certificate's")
	}
	return chain[0].URIs[0].String(), nil
}

func publicOf(key any) any {
	if signer, ok := key.(crypto.Signer); ok {
		return signer.Public()
	}
	return nil
}
