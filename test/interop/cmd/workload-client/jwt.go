package main

import (
	"context"
	"io"
	"os"
	"strings"

	"assay/interop/report"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
)

func jwt(ctx context.Context, o options) {
	source, err := workloadapi.NewJWTSource(ctx, workloadapi.WithClientOptions(address(o)))
	report.Must("the JWTSource opens", err)
	defer source.Close()
	second := "https://second.example"

	fetched, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: o.audience, ExtraAudiences: []string{second}})
	report.Must("a JWT-SVID is issued", err)
	report.Equal("it carries both audiences", strings.Join(fetched.Audience, " "), o.audience+" "+second)
	token := fetched.Marshal()
	for _, audience := range []string{o.audience, second} {
		validated, err := jwtsvid.ParseAndValidate(token, source, []string{audience})
		if report.NoError("go-spiffe validates it for "+audience, err) {
			report.Equal("go-spiffe reads the ID", validated.ID, fetched.ID)
		}
	}
	_, err = jwtsvid.ParseAndValidate(token, source, []string{"nobody"})
	report.Check("go-spiffe refuses it for another audience", err != nil, "%v", err)

	validated, err := workloadapi.ValidateJWTSVID(ctx, token, o.audience, address(o))
	if report.NoError("the agent validates it", err) {
		report.Equal("the agent reads the ID", validated.ID, fetched.ID)
	}
	_, err = workloadapi.ValidateJWTSVID(ctx, token, "nobody", address(o))
	report.Code("the agent refuses it for another audience", err, codes.InvalidArgument, "")
	_, err = workloadapi.ValidateJWTSVID(ctx, token[:len(token)-8]+"AAAAAAAA", o.audience, address(o))
	report.Code("the agent refuses a broken signature", err, codes.InvalidArgument, "")

	all, err := workloadapi.FetchJWTSVIDs(ctx, jwtsvid.Params{Audience: o.audience}, address(o))
	report.Must("JWT-SVIDs of all identities are issued", err)
	ids := []string{}
	for _, svid := range all {
		ids = append(ids, svid.ID.String()+" "+svid.Hint)
		own, err := workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: o.audience, Subject: svid.ID}, address(o))
		if report.NoError("a JWT-SVID for the ID that was named", err) {
			report.Equal("it has that ID", own.ID, svid.ID)
		}
	}
	report.Line(map[string][]string{"jwtIds": ids})
	_, err = workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: ""}, address(o))
	report.Code("an empty audience is refused", err, codes.InvalidArgument, "")
}

func validate(ctx context.Context, o options) {
	token, err := io.ReadAll(os.Stdin)
	report.Must("the token is read", err)
	svid, err := workloadapi.ValidateJWTSVID(ctx, strings.TrimSpace(string(token)), o.audience, address(o))
	if err != nil {
		refused("refused", err)
		return
	}
	report.Line(map[string]string{"event": "valid", "id": svid.ID.String()})
}
