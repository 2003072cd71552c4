package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"assay/interop/report"

	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

func (a admin) bundles(ctx context.Context) {
	client := bundlev1.NewBundleClient(a.connection)
	own, err := client.GetBundle(ctx, &bundlev1.GetBundleRequest{})
	report.Must("the own bundle", err)
	report.Equal("it names the trust domain", own.TrustDomain, a.domain)
	report.Check("it holds authorities of both kinds", len(own.X509Authorities) > 0 && len(own.JwtAuthorities) > 0,
		"%d X.509, %d JWT", len(own.X509Authorities), len(own.JwtAuthorities))
	masked, err := client.GetBundle(ctx, &bundlev1.GetBundleRequest{OutputMask: &types.BundleMask{RefreshHint: true}})
	report.NoError("the own bundle through a mask", err)
	report.Check("the mask leaves authorities out", len(masked.GetX509Authorities())+len(masked.GetJwtAuthorities()) == 0 && masked.GetTrustDomain() == a.domain, "%v", masked)

	foreign := map[string]*types.Bundle{}
	for _, name := range []string{"one.example", "two.example", "three.example"} {
		foreign[name] = &types.Bundle{TrustDomain: name, X509Authorities: []*types.X509Certificate{{Asn1: newAuthority(name)}}, RefreshHint: 60, SequenceNumber: 7}
	}
	a.createBundles(ctx, client, foreign)
	a.changeBundles(ctx, client, foreign)
	a.listBundles(ctx, client)
	a.appendToBundle(ctx, client, own)
}

func (a admin) createBundles(ctx context.Context, client bundlev1.BundleClient, foreign map[string]*types.Bundle) {
	created, err := client.BatchCreateFederatedBundle(ctx, &bundlev1.BatchCreateFederatedBundleRequest{Bundle: []*types.Bundle{
		foreign["one.example"], foreign["one.example"], {TrustDomain: a.domain}, {TrustDomain: "Bad Name"},
		{TrustDomain: "four.example", X509Authorities: []*types.X509Certificate{{Asn1: []byte("no certificate")}}},
	}})
	report.Must("bundles are created", err)
	for i, want := range []codes.Code{codes.OK, codes.AlreadyExists, codes.InvalidArgument, codes.InvalidArgument, codes.InvalidArgument} {
		report.Equal("a bundle is created or refused, item by item", codes.Code(created.Results[i].Status.GetCode()), want)
	}
	report.Equal("the bundle comes back as it was given", created.Results[0].Bundle, foreign["one.example"])

	set, err := client.BatchSetFederatedBundle(ctx, &bundlev1.BatchSetFederatedBundleRequest{Bundle: []*types.Bundle{foreign["two.example"], foreign["three.example"], {TrustDomain: a.domain}}})
	report.Must("bundles are set", err)
	for i, want := range []codes.Code{codes.OK, codes.OK, codes.InvalidArgument} {
		report.Equal("a bundle is set or refused, item by item", codes.Code(set.Results[i].Status.GetCode()), want)
	}
	counted, err := client.CountBundles(ctx, &bundlev1.CountBundlesRequest{})
	report.NoError("bundles are counted", err)
	report.Equal("the count includes the own bundle", counted.GetCount(), 4)
}

func (a admin) changeBundles(ctx context.Context, client bundlev1.BundleClient, foreign map[string]*types.Bundle) {
	change := &types.Bundle{TrustDomain: "one.example", RefreshHint: 120, SequenceNumber: 8}
	updated, err := client.BatchUpdateFederatedBundle(ctx, &bundlev1.BatchUpdateFederatedBundleRequest{
		Bundle:    []*types.Bundle{change, {TrustDomain: "nowhere.example"}},
		InputMask: &types.BundleMask{RefreshHint: true, SequenceNumber: true},
	})
	report.Must("bundles are updated", err)
	want := &types.Bundle{TrustDomain: "one.example", X509Authorities: foreign["one.example"].X509Authorities, RefreshHint: 120, SequenceNumber: 8}
	report.Equal("the mask changes only what it names", updated.Results[0].Bundle, want)
	report.Equal("a bundle that is not there", codes.Code(updated.Results[1].Status.GetCode()), codes.NotFound)

	got, err := client.GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: "one.example"})
	report.NoError("one federated bundle", err)
	report.Equal("it is what was stored", got, want)
	_, err = client.GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: a.domain})
	report.Code("the own bundle is not federated", err, codes.InvalidArgument, "")
	_, err = client.GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: "nowhere.example"})
	report.Code("no such bundle", err, codes.NotFound, "")
}

func (a admin) listBundles(ctx context.Context, client bundlev1.BundleClient) {
	all, err := client.ListFederatedBundles(ctx, &bundlev1.ListFederatedBundlesRequest{OutputMask: &types.BundleMask{}})
	report.NoError("federated bundles are listed", err)
	report.Equal("all but the own", domains(all.GetBundles()), "one.example three.example two.example")
	seen := []*types.Bundle{}
	for token, pages := "", 0; pages < 10; pages++ {
		page, err := client.ListFederatedBundles(ctx, &bundlev1.ListFederatedBundlesRequest{PageSize: 2, PageToken: token})
		report.Must("a page of bundles", err)
		seen = append(seen, page.Bundles...)
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	report.Equal("pages hold each bundle once", domains(seen), "one.example three.example two.example")
}

func (a admin) appendToBundle(ctx context.Context, client bundlev1.BundleClient, own *types.Bundle) {
	_, err := client.AppendBundle(ctx, &bundlev1.AppendBundleRequest{})
	report.Code("nothing to append", err, codes.InvalidArgument, "no authorities to append")
	added := newAuthority(a.domain)
	appended, err := client.AppendBundle(ctx, &bundlev1.AppendBundleRequest{X509Authorities: []*types.X509Certificate{{Asn1: added}}})
	report.NoError("an authority is appended", err)
	has := slices.ContainsFunc(appended.GetX509Authorities(), func(authority *types.X509Certificate) bool { return slices.Equal(authority.Asn1, added) })
	report.Check("the bundle grew by it", has && len(appended.GetX509Authorities()) == len(own.X509Authorities)+1, "%d authorities", len(appended.GetX509Authorities()))
	report.Check("its sequence number grew", appended.GetSequenceNumber() > own.SequenceNumber, "%d after %d", appended.GetSequenceNumber(), own.SequenceNumber)
}

// deleteModes needs the entries that federate with one.example and two.example.
func (a admin) deleteModes(ctx context.Context) {
	client, entries := bundlev1.NewBundleClient(a.connection), entryv1.NewEntryClient(a.connection)
	remove := func(mode bundlev1.BatchDeleteFederatedBundleRequest_Mode, name string) codes.Code {
		answer, err := client.BatchDeleteFederatedBundle(ctx, &bundlev1.BatchDeleteFederatedBundleRequest{TrustDomains: []string{name}, Mode: mode})
		report.Must("a bundle's deletion is answered", err)
		report.Equal("the trust domain is echoed", answer.Results[0].TrustDomain, name)
		return codes.Code(answer.Results[0].Status.GetCode())
	}
	federation := func(id string) string {
		entry, err := entries.GetEntry(ctx, &entryv1.GetEntryRequest{Id: id})
		if err != nil {
			return "gone"
		}
		return strings.Join(entry.FederatesWith, " ")
	}
	report.Equal("RESTRICT refuses a bundle that is used", remove(bundlev1.BatchDeleteFederatedBundleRequest_RESTRICT, "one.example"), codes.FailedPrecondition)
	report.Equal("RESTRICT deletes one that is not", remove(bundlev1.BatchDeleteFederatedBundleRequest_RESTRICT, "three.example"), codes.OK)
	report.Equal("DISSOCIATE", remove(bundlev1.BatchDeleteFederatedBundleRequest_DISSOCIATE, "one.example"), codes.OK)
	report.Equal("the entry stays, without the link", federation("one"), "")
	report.Equal("the entry keeps its other link", federation("two"), "two.example")
	report.Equal("DELETE", remove(bundlev1.BatchDeleteFederatedBundleRequest_DELETE, "two.example"), codes.OK)
	report.Equal("the entry went too", federation("two"), "gone")
	report.Equal("the own bundle cannot be deleted", remove(bundlev1.BatchDeleteFederatedBundleRequest_RESTRICT, a.domain), codes.InvalidArgument)
	report.Equal("a bundle that is not there", remove(bundlev1.BatchDeleteFederatedBundleRequest_RESTRICT, "nowhere.example"), codes.NotFound)
}

func domains(bundles []*types.Bundle) string {
	names := []string{}
	for _, bundle := range bundles {
		names = append(names, bundle.TrustDomain)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// newAuthority makes the self-signed certificate of a CA, DER.
func newAuthority(trustDomain string) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	report.Must("a CA key", err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{Organization: []string{"SPIFFE"}},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	report.Must("a CA certificate", err)
	return der
}
