package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"slices"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

const entryCount = 1200

// What SPIRE's agent asks for.
var outputMask = &types.EntryMask{SpiffeId: true, Selectors: true, FederatesWith: true, Admin: true, Downstream: true, RevisionNumber: true,
	StoreSvid: true, Hint: true, AdditionalAttributes: true, CreatedAt: true}

func (n *node) entries(ctx context.Context, svid *x509svid.SVID) {
	connection := n.dial(svid)
	defer connection.Close()
	client := entryv1.NewEntryClient(connection)

	whole := sync(ctx, client, nil)
	report.Check("no entries yet: one answer, which is empty", len(whole.entries) == 0 && !whole.paged, "%d", len(whole.entries))
	foreign := n.createEntries(ctx, svid)
	paged := sync(ctx, client, nil)
	report.Check("1 200 entries come by revision", paged.paged && len(paged.revisions) == entryCount, "%d revisions", len(paged.revisions))
	report.Equal("in pages of 500", paged.pages, []int{500, 500, 200})
	report.Equal("all are fetched", len(paged.entries), entryCount)
	report.Check("another node's entry is not among them", paged.entries[foreign] == nil, "")
	sample := paged.entries["entry-0007"]
	report.Check("the mask leaves out what agents do not need", sample != nil && sample.ParentId == nil && sample.GetSpiffeId().GetPath() == "/workload/7", "%v", sample)

	_, err := n.adminEntries.BatchUpdateEntry(ctx, &entryv1.BatchUpdateEntryRequest{
		Entries: []*types.Entry{{Id: "entry-0003", Hint: "changed"}}, InputMask: &types.EntryMask{Hint: true}})
	report.Must("an entry is changed", err)
	_, err = n.adminEntries.BatchDeleteEntry(ctx, &entryv1.BatchDeleteEntryRequest{Ids: []string{"entry-0004"}})
	report.Must("an entry is deleted", err)
	again := sync(ctx, client, paged.entries)
	report.Equal("the next round fetches only what changed", again.fetched, []string{"entry-0003"})
	report.Equal("the change is there", again.entries["entry-0003"].GetHint(), "changed")
	report.Check("the deleted entry is not listed", again.entries["entry-0004"] == nil && len(again.revisions) == entryCount-1, "%d revisions", len(again.revisions))

	old, err := client.GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{OutputMask: outputMask})
	report.NoError("the old form", err)
	report.Equal("it gives the same number", len(old.GetEntries()), entryCount-1)
	_, err = client.CountEntries(ctx, &entryv1.CountEntriesRequest{})
	report.Code("an agent is no administrator", err, codes.PermissionDenied, "authorization denied for method /spire.api.server.entry.v1.Entry/CountEntries")
	n.refusedSyncs(ctx, client)
	n.sign(ctx, svidv1.NewSVIDClient(connection), bundlev1.NewBundleClient(connection), foreign)
}

// createEntries makes this node's entries and one of another node, whose id it gives.
func (n *node) createEntries(ctx context.Context, svid *x509svid.SVID) string {
	entries := []*types.Entry{{Id: "foreign", SpiffeId: &types.SPIFFEID{TrustDomain: n.domain.Name(), Path: "/workload/foreign"},
		ParentId: &types.SPIFFEID{TrustDomain: n.domain.Name(), Path: "/spire/agent/join_token/another"}, Selectors: []*types.Selector{{Type: "unix", Value: "uid:1"}}}}
	for i := range entryCount {
		entries = append(entries, &types.Entry{
			Id:          fmt.Sprintf("entry-%04d", i),
			SpiffeId:    &types.SPIFFEID{TrustDomain: n.domain.Name(), Path: fmt.Sprintf("/workload/%d", i)},
			ParentId:    message(svid.ID),
			Selectors:   []*types.Selector{{Type: "unix", Value: fmt.Sprintf("uid:%d", i)}},
			X509SvidTtl: 600,
			DnsNames:    []string{fmt.Sprintf("workload-%d.example", i)},
		})
	}
	for batch := range slices.Chunk(entries, 200) {
		answer, err := n.adminEntries.BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{Entries: batch, OutputMask: &types.EntryMask{}})
		report.Must("entries are created", err)
		for _, result := range answer.Results {
			if result.Status.GetCode() != 0 {
				report.Check("an entry is created", false, "%v", result.Status)
			}
		}
	}
	return "foreign"
}

func (n *node) refusedSyncs(ctx context.Context, client entryv1.EntryClient) {
	for name, request := range map[string]*entryv1.SyncAuthorizedEntriesRequest{
		"ids at once":             {OutputMask: outputMask, Ids: []string{"entry-0001"}},
		"a mask without revision": {OutputMask: &types.EntryMask{SpiffeId: true}},
	} {
		stream, err := client.SyncAuthorizedEntries(ctx)
		report.Must("a stream opens", err)
		_ = stream.Send(request)
		_, err = stream.Recv()
		report.Code("SyncAuthorizedEntries refuses "+name, err, codes.InvalidArgument, "")
	}
}

func (n *node) sign(ctx context.Context, client svidv1.SVIDClient, bundles bundlev1.BundleClient, foreign string) {
	keys := make([]*ecdsa.PrivateKey, 500)
	request := &svidv1.BatchNewX509SVIDRequest{}
	for i := range keys {
		keys[i] = p256()
		request.Params = append(request.Params, &svidv1.NewX509SVIDParams{EntryId: fmt.Sprintf("entry-%04d", i+500), Csr: csr(keys[i])})
	}
	signed, err := client.BatchNewX509SVID(ctx, request)
	report.Must("500 X509-SVIDs are signed", err)
	wrong, serials := []string{}, map[string]bool{}
	for i, result := range signed.Results {
		if reason := n.verifyLeaf(result, keys[i], i+500); reason != "" {
			wrong = append(wrong, reason)
		} else {
			leaf, _ := x509.ParseCertificate(result.Svid.CertChain[0])
			serials[leaf.SerialNumber.String()] = true
		}
	}
	report.Check("go-spiffe verifies each of the 500", len(signed.Results) == 500 && len(wrong) == 0, "%v", wrong)
	report.Equal("each has its own serial number", len(serials), 500)

	mixed, err := client.BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{Params: []*svidv1.NewX509SVIDParams{
		{EntryId: foreign, Csr: csr(p256())}, {EntryId: "nowhere", Csr: csr(p256())}, {Csr: csr(p256())}, {EntryId: "entry-0001"},
		{EntryId: "entry-0001", Csr: broken(csr(p256()))}, {EntryId: "entry-0001", Csr: csr(p256())},
	}})
	report.Must("a mixed batch is answered", err)
	for i, want := range []codes.Code{codes.NotFound, codes.NotFound, codes.InvalidArgument, codes.InvalidArgument, codes.InvalidArgument, codes.OK} {
		report.Equal("signed or refused, item by item", codes.Code(mixed.Results[i].Status.GetCode()), want)
	}
	report.Equal("the refusal does not tell whether the entry exists", mixed.Results[0].Status.GetMessage(), mixed.Results[1].Status.GetMessage())
	n.signJWT(ctx, client, bundles, foreign)
}

func (n *node) verifyLeaf(result *svidv1.BatchNewX509SVIDResponse_Result, key *ecdsa.PrivateKey, index int) string {
	if result.Status.GetCode() != 0 {
		return result.Status.GetMessage()
	}
	id, chains, err := x509svid.ParseAndVerify(result.Svid.CertChain, n.bundle)
	if err != nil {
		return err.Error()
	}
	leaf, want := chains[0][0], fmt.Sprintf("/workload/%d", index)
	name := fmt.Sprintf("workload-%d.example", index)
	if id.Path() != want || !leaf.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) || !slices.Equal(leaf.DNSNames, []string{name}) || leaf.Subject.CommonName != name {
		return fmt.Sprintf("%s %v %s", id, leaf.DNSNames, leaf.Subject)
	}
	return ""
}

func (n *node) signJWT(ctx context.Context, client svidv1.SVIDClient, bundles bundlev1.BundleClient, foreign string) {
	own, err := bundles.GetBundle(ctx, &bundlev1.GetBundleRequest{OutputMask: &types.BundleMask{JwtAuthorities: true}})
	report.Must("the JWT bundle", err)
	bundle := jwtbundle.New(n.domain)
	for _, authority := range own.JwtAuthorities {
		key, err := x509.ParsePKIXPublicKey(authority.PublicKey)
		report.Must("a JWT authority is readable", err)
		report.Must("a JWT authority has its key ID", bundle.AddJWTAuthority(authority.KeyId, key))
	}
	signed, err := client.NewJWTSVID(ctx, &svidv1.NewJWTSVIDRequest{EntryId: "entry-0001", Audience: []string{"somebody"}})
	if report.NoError("a JWT-SVID is signed", err) {
		svid, err := jwtsvid.ParseAndValidate(signed.Svid.Token, bundle, []string{"somebody"})
		report.NoError("go-spiffe validates it", err)
		report.Check("it has the entry's ID", err == nil && svid.ID.Path() == "/workload/1", "%v", svid)
	}
	_, err = client.NewJWTSVID(ctx, &svidv1.NewJWTSVIDRequest{EntryId: "entry-0001"})
	report.Code("no JWT-SVID without audience", err, codes.InvalidArgument, "")
	_, err = client.NewJWTSVID(ctx, &svidv1.NewJWTSVIDRequest{EntryId: foreign, Audience: []string{"somebody"}})
	report.Code("no JWT-SVID for another node's entry", err, codes.NotFound, "entry not found or not authorized")
}
