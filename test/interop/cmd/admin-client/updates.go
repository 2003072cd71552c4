package main

import (
	"context"

	"assay/interop/report"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

func (a admin) updates(ctx context.Context) {
	client := entryv1.NewEntryClient(a.connection)
	update := func(entry *types.Entry, input, output *types.EntryMask) *entryv1.BatchUpdateEntryResponse_Result {
		answer, err := client.BatchUpdateEntry(ctx, &entryv1.BatchUpdateEntryRequest{Entries: []*types.Entry{entry}, InputMask: input, OutputMask: output})
		report.Must("an update is answered", err)
		return answer.Results[0]
	}
	ok := &types.Status{Message: "OK"}

	hint := update(&types.Entry{Id: "one", Hint: "renamed"}, &types.EntryMask{Hint: true}, nil)
	report.Equal("a masked update succeeds", hint.Status, ok)
	report.Equal("it changes the field named", hint.Entry.GetHint(), "renamed")
	report.Equal("it leaves the others", hint.Entry.GetFederatesWith(), []string{"one.example"})
	report.Equal("it counts the revision", hint.Entry.GetRevisionNumber(), 1)

	whole := a.fixtures()[2]
	whole.DnsNames, whole.X509SvidTtl = []string{"other.example"}, 0
	replaced := update(whole, nil, &types.EntryMask{DnsNames: true, X509SvidTtl: true, RevisionNumber: true})
	report.Equal("an update without mask replaces", replaced.Status, ok)
	report.Equal("the output mask keeps what it names", replaced.Entry, &types.Entry{Id: "three", DnsNames: []string{"other.example"}, RevisionNumber: 1})

	missing := update(&types.Entry{Id: "nowhere", Hint: "x"}, &types.EntryMask{Hint: true}, nil)
	report.Equal("an entry that is not there", codes.Code(missing.Status.GetCode()), codes.NotFound)
	nameless := update(&types.Entry{Hint: "x"}, &types.EntryMask{Hint: true}, nil)
	report.Equal("an update without id", codes.Code(nameless.Status.GetCode()), codes.NotFound)
	foreign := update(&types.Entry{Id: "one", SpiffeId: &types.SPIFFEID{TrustDomain: "foreign.example", Path: "/x"}}, &types.EntryMask{SpiffeId: true}, nil)
	report.Equal("an ID of another trust domain", codes.Code(foreign.Status.GetCode()), codes.InvalidArgument)

	deleted, err := client.BatchDeleteEntry(ctx, &entryv1.BatchDeleteEntryRequest{Ids: []string{"four", "nowhere", ""}})
	report.Must("a deletion is answered", err)
	for i, want := range []codes.Code{codes.OK, codes.NotFound, codes.InvalidArgument} {
		report.Equal("deletion item by item", codes.Code(deleted.Results[i].Status.GetCode()), want)
	}
	report.Equal("the id is echoed", deleted.Results[1].Id, "nowhere")
	_, err = client.GetEntry(ctx, &entryv1.GetEntryRequest{Id: "four"})
	report.Code("what was deleted is gone", err, codes.NotFound, "entry not found")
}
