package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"assay/interop/report"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Four entries whose selector and federation sets overlap in every way the four kinds of match tell apart.
func (a admin) fixtures() []*types.Entry {
	return []*types.Entry{
		{Id: "one", SpiffeId: a.id("/one"), ParentId: a.id("/node"), Selectors: []*types.Selector{unixSelector("uid:1")},
			FederatesWith: []string{"one.example"}, Hint: "first"},
		{Id: "two", SpiffeId: a.id("/two"), ParentId: a.id("/node"), Selectors: []*types.Selector{unixSelector("uid:1"), unixSelector("gid:2")},
			FederatesWith: []string{"one.example", "two.example"}, Downstream: true},
		{Id: "three", SpiffeId: a.id("/three"), ParentId: a.id("/other"), Selectors: []*types.Selector{unixSelector("gid:2")},
			DnsNames: []string{"three.example", "*.three.example"}, X509SvidTtl: 600, JwtSvidTtl: 60, Admin: true, ExpiresAt: 4102444800},
		{Id: "four", SpiffeId: a.id("/one"), ParentId: a.id("/other"), Selectors: []*types.Selector{unixSelector("uid:4")},
			AdditionalAttributes: &types.Entry_AdditionalAttributes{DisableX509SvidPrefetch: true, JwtSvidIncludeJti: true}},
	}
}

func (a admin) entries(ctx context.Context) {
	client := entryv1.NewEntryClient(a.connection)
	created, err := client.BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{Entries: a.fixtures()})
	report.Must("entries are created", err)
	for i, want := range a.fixtures() {
		result := created.Results[i]
		report.Equal("entry "+want.Id+" is created", result.Status, &types.Status{Message: "OK"})
		got := result.Entry
		report.Check("entry "+want.Id+" is stamped", got.GetCreatedAt() > 1_700_000_000 && got.GetRevisionNumber() == 0,
			"created at %d, revision %d", got.GetCreatedAt(), got.GetRevisionNumber())
		got.CreatedAt = 0
		if want.AdditionalAttributes == nil {
			got.AdditionalAttributes = nil
		}
		slices.SortFunc(got.Selectors, func(a, b *types.Selector) int { return strings.Compare(b.Value, a.Value) })
		report.Equal("entry "+want.Id+" comes back as it was given", got, want)
	}
	a.refusedEntries(ctx, client)
	a.entryFilters(ctx, client)
	a.entryPages(ctx, client)
}

func (a admin) refusedEntries(ctx context.Context, client entryv1.EntryClient) {
	selectors := []*types.Selector{unixSelector("uid:9")}
	refused := []struct {
		name  string
		entry *types.Entry
		code  codes.Code
		text  string
	}{
		{"a similar entry", &types.Entry{SpiffeId: a.id("/one"), ParentId: a.id("/node"), Selectors: []*types.Selector{unixSelector("uid:1")}},
			codes.AlreadyExists, "similar entry already exists"},
		{"an entry without parent", &types.Entry{SpiffeId: a.id("/x"), Selectors: selectors}, codes.InvalidArgument, "failed to convert entry: invalid parent ID: "},
		{"an entry without SPIFFE ID", &types.Entry{ParentId: a.id("/node"), Selectors: selectors}, codes.InvalidArgument, "failed to convert entry: invalid spiffe ID: "},
		{"an ID of another trust domain", &types.Entry{SpiffeId: &types.SPIFFEID{TrustDomain: "foreign.example", Path: "/x"}, ParentId: a.id("/node"), Selectors: selectors},
			codes.InvalidArgument, "failed to convert entry: invalid spiffe ID: "},
		{"a reserved ID", &types.Entry{SpiffeId: a.id("/spire/x"), ParentId: a.id("/node"), Selectors: selectors}, codes.InvalidArgument, "failed to convert entry: invalid spiffe ID: "},
		{"an entry without selectors", &types.Entry{SpiffeId: a.id("/x"), ParentId: a.id("/node")}, codes.InvalidArgument, "failed to convert entry: selector list is empty"},
		{"a DNS name with a trailing dot", &types.Entry{SpiffeId: a.id("/x"), ParentId: a.id("/node"), Selectors: selectors, DnsNames: []string{"a.example."}},
			codes.InvalidArgument, "failed to convert entry: invalid DNS name: "},
		{"a negative ttl", &types.Entry{SpiffeId: a.id("/x"), ParentId: a.id("/node"), Selectors: selectors, X509SvidTtl: -1}, codes.InvalidArgument, "failed to "},
		{"a hint of 1025 characters", &types.Entry{SpiffeId: a.id("/x"), ParentId: a.id("/node"), Selectors: selectors, Hint: strings.Repeat("h", 1025)},
			codes.InvalidArgument, "failed to convert entry: hint is too long, max length is 1024 characters"},
		{"federation with the own trust domain's neighbour that is no name", &types.Entry{SpiffeId: a.id("/x"), ParentId: a.id("/node"), Selectors: selectors, FederatesWith: []string{"Not A Name"}},
			codes.InvalidArgument, "failed to convert entry: invalid federated trust domain: "},
		{"federation without a bundle", &types.Entry{SpiffeId: a.id("/x"), ParentId: a.id("/node"), Selectors: selectors, FederatesWith: []string{"unknown.example"}},
			codes.Internal, ""},
		{"an id that is taken", &types.Entry{Id: "two", SpiffeId: a.id("/x"), ParentId: a.id("/node"), Selectors: selectors}, codes.AlreadyExists, ""},
	}
	request := &entryv1.BatchCreateEntryRequest{}
	for _, row := range refused {
		request.Entries = append(request.Entries, row.entry)
	}
	answer, err := client.BatchCreateEntry(ctx, request)
	report.Must("a batch of bad entries is answered, item by item", err)
	for i, row := range refused {
		status := answer.Results[i].Status
		report.Check("refused: "+row.name, codes.Code(status.GetCode()) == row.code && strings.Contains(status.GetMessage(), row.text),
			"got %d %q, want %d %q", status.GetCode(), status.GetMessage(), row.code, row.text)
	}
	report.Equal("the similar entry is handed back", answer.Results[0].Entry.GetId(), "one")

	_, err = client.GetEntry(ctx, &entryv1.GetEntryRequest{})
	report.Code("no entry without an id", err, codes.InvalidArgument, "missing ID")
	_, err = client.GetEntry(ctx, &entryv1.GetEntryRequest{Id: "nowhere"})
	report.Code("no such entry", err, codes.NotFound, "entry not found")
	_, err = client.ListEntries(ctx, &entryv1.ListEntriesRequest{Filter: &entryv1.ListEntriesRequest_Filter{BySelectors: &types.SelectorMatch{}}})
	report.Code("an empty selector set filters nothing and is refused", err, codes.InvalidArgument, "")
	_, err = client.ListEntries(ctx, &entryv1.ListEntriesRequest{Filter: &entryv1.ListEntriesRequest_Filter{ByFederatesWith: &types.FederatesWithMatch{}}})
	report.Code("an empty federation set is refused", err, codes.InvalidArgument, "")
	_, err = client.ListEntries(ctx, &entryv1.ListEntriesRequest{PageSize: 2, PageToken: "not a token"})
	report.Code("a token that is none", err, codes.Internal, "")
}

func (a admin) entryFilters(ctx context.Context, client entryv1.EntryClient) {
	uid1, both := []*types.Selector{unixSelector("uid:1")}, []*types.Selector{unixSelector("gid:2"), unixSelector("uid:1")}
	selectors := func(match types.SelectorMatch_MatchBehavior, set []*types.Selector) *entryv1.ListEntriesRequest_Filter {
		return &entryv1.ListEntriesRequest_Filter{BySelectors: &types.SelectorMatch{Match: match, Selectors: set}}
	}
	federates := func(match types.FederatesWithMatch_MatchBehavior, set ...string) *entryv1.ListEntriesRequest_Filter {
		return &entryv1.ListEntriesRequest_Filter{ByFederatesWith: &types.FederatesWithMatch{Match: match, TrustDomains: set}}
	}
	for _, row := range []struct {
		name   string
		filter *entryv1.ListEntriesRequest_Filter
		want   string
	}{
		{"nothing", nil, "four one three two"},
		{"SPIFFE ID", &entryv1.ListEntriesRequest_Filter{BySpiffeId: a.id("/one")}, "four one"},
		{"parent ID", &entryv1.ListEntriesRequest_Filter{ByParentId: a.id("/node")}, "one two"},
		{"SPIFFE ID and parent ID", &entryv1.ListEntriesRequest_Filter{BySpiffeId: a.id("/one"), ByParentId: a.id("/node")}, "one"},
		{"selectors exactly", selectors(types.SelectorMatch_MATCH_EXACT, uid1), "one"},
		{"selectors as subset", selectors(types.SelectorMatch_MATCH_SUBSET, both), "one three two"},
		{"selectors as superset", selectors(types.SelectorMatch_MATCH_SUPERSET, uid1), "one two"},
		{"any selector", selectors(types.SelectorMatch_MATCH_ANY, both), "one three two"},
		{"federation exactly", federates(types.FederatesWithMatch_MATCH_EXACT, "one.example"), "one"},
		{"federation as subset", federates(types.FederatesWithMatch_MATCH_SUBSET, "one.example", "two.example"), "one two"},
		{"federation as superset", federates(types.FederatesWithMatch_MATCH_SUPERSET, "one.example", "two.example"), "two"},
		{"any federation", federates(types.FederatesWithMatch_MATCH_ANY, "two.example", "three.example"), "two"},
		{"hint", &entryv1.ListEntriesRequest_Filter{ByHint: wrapperspb.String("first")}, "one"},
		{"an empty hint", &entryv1.ListEntriesRequest_Filter{ByHint: wrapperspb.String("")}, "four one three two"},
		{"downstream", &entryv1.ListEntriesRequest_Filter{ByDownstream: wrapperspb.Bool(true)}, "two"},
		{"not downstream", &entryv1.ListEntriesRequest_Filter{ByDownstream: wrapperspb.Bool(false)}, "four one three two"},
	} {
		listed, err := client.ListEntries(ctx, &entryv1.ListEntriesRequest{Filter: row.filter})
		if !report.NoError("listed by "+row.name, err) {
			continue
		}
		report.Equal("entries by "+row.name, names(listed.Entries), row.want)
		filter := (*entryv1.CountEntriesRequest_Filter)(nil)
		if row.filter != nil {
			filter = &entryv1.CountEntriesRequest_Filter{BySpiffeId: row.filter.BySpiffeId, ByParentId: row.filter.ByParentId, BySelectors: row.filter.BySelectors,
				ByFederatesWith: row.filter.ByFederatesWith, ByHint: row.filter.ByHint, ByDownstream: row.filter.ByDownstream}
		}
		counted, err := client.CountEntries(ctx, &entryv1.CountEntriesRequest{Filter: filter})
		report.NoError("counted by "+row.name, err)
		report.Equal("count by "+row.name, counted.GetCount(), len(strings.Fields(row.want)))
	}

	masked, err := client.GetEntry(ctx, &entryv1.GetEntryRequest{Id: "one", OutputMask: &types.EntryMask{Hint: true}})
	report.NoError("an entry through a mask", err)
	report.Equal("the mask keeps id and hint", masked, &types.Entry{Id: "one", Hint: "first"})
}

func (a admin) entryPages(ctx context.Context, client entryv1.EntryClient) {
	var seen, sizes []string
	for token, pages := "", 0; pages < 10; pages++ {
		page, err := client.ListEntries(ctx, &entryv1.ListEntriesRequest{PageSize: 3, PageToken: token, OutputMask: &types.EntryMask{}})
		report.Must("a page of entries", err)
		sizes = append(sizes, fmt.Sprint(len(page.Entries)))
		for _, entry := range page.Entries {
			seen = append(seen, entry.Id)
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	slices.Sort(seen)
	report.Equal("pages hold each entry once", strings.Join(seen, " "), "four one three two")
	report.Equal("pages of three, then what is left, then an empty one", strings.Join(sizes, " "), "3 1 0")
}

func names(entries []*types.Entry) string {
	ids := []string{}
	for _, entry := range entries {
		ids = append(ids, entry.Id)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}
