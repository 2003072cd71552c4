package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"assay/interop/report"

	delegatedidentityv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/delegatedidentity/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const largest = 20 * 1024 * 1024

// listen subscribes to SVIDs and bundles; when either stream fails, both begin again.
func listen(ctx context.Context, o options) {
	for ctx.Err() == nil {
		err := follow(ctx, o)
		if ctx.Err() != nil {
			return
		}
		report.Line(map[string]any{"event": "svids refused", "code": status.Code(err).String(), "message": status.Convert(err).Message()})
		time.Sleep(100 * time.Millisecond)
	}
}

func follow(ctx context.Context, o options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+o.adminSocket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largest), grpc.MaxCallSendMsgSize(largest)))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := delegatedidentityv1.NewDelegatedIdentityClient(connection)
	svids, err := client.SubscribeToX509SVIDs(ctx, &delegatedidentityv1.SubscribeToX509SVIDsRequest{Selectors: selectors})
	if err != nil {
		return err
	}
	bundles, err := client.SubscribeToX509Bundles(ctx, &delegatedidentityv1.SubscribeToX509BundlesRequest{})
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() {
		for {
			response, err := svids.Recv()
			if err != nil {
				failed <- err
				return
			}
			report.Line(map[string]any{"event": "svids", "ids": known(o, response.X509Svids)})
		}
	}()
	go func() {
		for {
			response, err := bundles.Recv()
			if err != nil {
				failed <- err
				return
			}
			report.Line(map[string]any{"event": "bundles", "sizes": sizes(response.CaCertificates)})
		}
	}()
	return <-failed
}

// known gives the IDs whose SVIDs could be used for a handshake, or what is wrong with one.
func known(o options, svids []*delegatedidentityv1.X509SVIDWithKey) []string {
	ids := []string{}
	for _, svid := range svids {
		id := fmt.Sprintf("spiffe://%s%s", svid.X509Svid.Id.TrustDomain, svid.X509Svid.Id.Path)
		if svid.X509Svid.Id.TrustDomain != o.domain {
			id = "foreign " + id
		}
		if err := usable(id, svid); err != nil {
			id = err.Error()
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func usable(id string, svid *delegatedidentityv1.X509SVIDWithKey) error {
	leaf, err := x509.ParseCertificate(svid.X509Svid.CertChain[0])
	if err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(svid.X509SvidKey)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.(crypto.Signer).Public())
	if err != nil {
		return err
	}
	if !bytes.Equal(public, leaf.RawSubjectPublicKeyInfo) {
		return fmt.Errorf("%s has the key of another", id)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != id || leaf.IsCA {
		return fmt.Errorf("%s has another certificate", id)
	}
	if svid.X509Svid.ExpiresAt != leaf.NotAfter.Unix() {
		return fmt.Errorf("%s does not expire when it says", id)
	}
	return nil
}

func sizes(bundles map[string][]byte) map[string]int {
	found := map[string]int{}
	for domain, bundle := range bundles {
		certificates, err := x509.ParseCertificates(bundle)
		if err != nil {
			report.Check("the bundle of "+domain, false, "%v", err)
		}
		found[domain] = len(certificates)
	}
	return found
}
