package main

import (
	"context"
	"slices"

	"assay/interop/report"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

// synced is the outcome of one round.
type synced struct {
	entries map[string]*types.Entry
	// paged: the server listed revisions instead of whole entries.
	paged     bool
	revisions []*entryv1.EntryRevision
	pages     []int
	// fetched are the entries that were asked for, sorted.
	fetched []string
}

// sync does what SPIRE's agent does: takes whole entries, or lists revisions and fetches those that it does not know.
func sync(ctx context.Context, client entryv1.EntryClient, known map[string]*types.Entry) synced {
	stream, err := client.SyncAuthorizedEntries(ctx)
	report.Must("a stream opens", err)
	report.Must("the first request", stream.Send(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: outputMask}))
	outcome := synced{entries: map[string]*types.Entry{}}
	for {
		page, err := stream.Recv()
		report.Must("a page", err)
		for _, entry := range page.Entries {
			outcome.entries[entry.Id] = entry
		}
		if len(page.EntryRevisions) > 0 {
			outcome.paged = true
			outcome.revisions = append(outcome.revisions, page.EntryRevisions...)
			outcome.pages = append(outcome.pages, len(page.EntryRevisions))
		}
		if !page.More {
			break
		}
	}
	for _, revision := range outcome.revisions {
		if entry := known[revision.Id]; entry != nil && entry.RevisionNumber == revision.RevisionNumber && entry.CreatedAt == revision.CreatedAt {
			outcome.entries[entry.Id] = entry
		} else {
			outcome.fetched = append(outcome.fetched, revision.Id)
		}
	}
	slices.Sort(outcome.fetched)
	for ids := range slices.Chunk(outcome.fetched, 500) {
		report.Must("a request for entries", stream.Send(&entryv1.SyncAuthorizedEntriesRequest{Ids: ids}))
		for more := true; more; {
			page, err := stream.Recv()
			report.Must("a page of entries", err)
			for _, entry := range page.Entries {
				outcome.entries[entry.Id] = entry
			}
			more = page.More
		}
	}
	_ = stream.CloseSend()
	return outcome
}
