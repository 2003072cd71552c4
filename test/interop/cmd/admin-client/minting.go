package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"time"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"google.golang.org/grpc/codes"
)

func (a admin) minting(ctx context.Context) {
	bundle, err := bundlev1.NewBundleClient(a.connection).GetBundle(ctx, &bundlev1.GetBundleRequest{})
	report.Must("the bundle to verify with", err)
	td := spiffeid.RequireTrustDomainFromString(a.domain)
	x509Bundle, jwtBundle := x509bundle.New(td), jwtbundle.New(td)
	for _, authority := range bundle.X509Authorities {
		certificate, err := x509.ParseCertificate(authority.Asn1)
		report.Must("an X.509 authority is readable", err)
		x509Bundle.AddX509Authority(certificate)
	}
	for _, authority := range bundle.JwtAuthorities {
		key, err := x509.ParsePKIXPublicKey(authority.PublicKey)
		report.Must("a JWT authority is readable", err)
		report.Must("a JWT authority has its key ID", jwtBundle.AddJWTAuthority(authority.KeyId, key))
	}
	client := svidv1.NewSVIDClient(a.connection)
	a.mintX509(ctx, client, x509Bundle)
	a.mintJWT(ctx, client, jwtBundle)
}

func (a admin) mintX509(ctx context.Context, client svidv1.SVIDClient, bundle *x509bundle.Bundle) {
	key := p256()
	minted, err := client.MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: csr(key, "spiffe://"+a.domain+"/minted", "minted.example"), Ttl: 90})
	if report.NoError("an X509-SVID is minted", err) {
		id, chains, err := x509svid.ParseAndVerify(minted.Svid.CertChain, bundle)
		report.NoError("go-spiffe verifies it", err)
		report.Equal("its ID", id, "spiffe://"+a.domain+"/minted")
		leaf := chains[0][0]
		report.Equal("its DNS name", leaf.DNSNames, []string{"minted.example"})
		report.Equal("its end is told", leaf.NotAfter.Unix(), minted.Svid.ExpiresAt)
		left := time.Until(leaf.NotAfter).Seconds()
		report.Check("it lives as long as asked", left > 60 && left <= 90, "%.0f s", left)
		report.Check("its key is the CSR's", leaf.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()), "")
		report.Equal("its subject is the CSR's", leaf.Subject.CommonName, "the requester")
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	report.Must("a P-224 key", err)
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	report.Must("an RSA-1024 key", err)
	for name, request := range map[string][]byte{
		"no CSR":                         nil,
		"no certificate request":         []byte("no certificate request"),
		"a CSR whose signature is wrong": broken(csr(p256(), "spiffe://"+a.domain+"/minted")),
		"a P-224 key":                    csr(p224, "spiffe://"+a.domain+"/minted"),
		"an RSA-1024 key":                csr(rsa1024, "spiffe://"+a.domain+"/minted"),
		"no URI":                         csr(p256(), ""),
		"another trust domain":           csr(p256(), "spiffe://foreign.example/minted"),
		"a reserved ID":                  csr(p256(), "spiffe://"+a.domain+"/spire/server"),
		"an ID of 3000 bytes":            csr(p256(), "spiffe://"+a.domain+"/"+strings.Repeat("a", 3000)),
		"overlapping DNS names":          csr(p256(), "spiffe://"+a.domain+"/minted", "*.example.org", "a.example.org"),
	} {
		_, err := client.MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: request})
		report.Code("MintX509SVID refuses "+name, err, codes.InvalidArgument, "")
	}
}

func (a admin) mintJWT(ctx context.Context, client svidv1.SVIDClient, bundle *jwtbundle.Bundle) {
	minted, err := client.MintJWTSVID(ctx, &svidv1.MintJWTSVIDRequest{Id: a.id("/minted"), Audience: []string{"one", "two"}, Ttl: 45})
	if report.NoError("a JWT-SVID is minted", err) {
		svid, err := jwtsvid.ParseAndValidate(minted.Svid.Token, bundle, []string{"two"})
		if report.NoError("go-spiffe validates it", err) {
			report.Equal("its ID", svid.ID, "spiffe://"+a.domain+"/minted")
			report.Equal("its end is told", svid.Expiry.Unix(), minted.Svid.ExpiresAt)
			report.Equal("its life is as asked", minted.Svid.ExpiresAt-minted.Svid.IssuedAt, 45)
		}
	}
	for name, request := range map[string]*svidv1.MintJWTSVIDRequest{
		"no audience":       {Id: a.id("/minted")},
		"an empty audience": {Id: a.id("/minted"), Audience: []string{""}},
		"10 000 audiences":  {Id: a.id("/minted"), Audience: strings.Split(strings.Repeat("audience,", 10_000), ",")},
		"no ID":             {Audience: []string{"one"}},
		"a reserved ID":     {Id: a.id("/spire/server"), Audience: []string{"one"}},
	} {
		_, err := client.MintJWTSVID(ctx, request)
		report.Code("MintJWTSVID refuses "+name, err, codes.InvalidArgument, "")
	}
	_, err = client.MintWITSVID(ctx, &svidv1.MintWITSVIDRequest{})
	report.Code("WIT-SVIDs are not offered", err, codes.Unimplemented, "")
}

func p256() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	report.Must("a P-256 key", err)
	return key
}

// csr makes a certificate request, DER. An empty id leaves the URI out.
func csr(key crypto.Signer, id string, dnsNames ...string) []byte {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "the requester"}, DNSNames: dnsNames}
	if id != "" {
		uri, err := url.Parse(id)
		report.Must("the ID is a URI", err)
		template.URIs = []*url.URL{uri}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	report.Must("a certificate request", err)
	return der
}

// broken flips the last bit of the signature.
func broken(der []byte) []byte {
	der[len(der)-1] ^= 1
	return der
}
