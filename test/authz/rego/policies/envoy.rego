# Policies as people write them for OPA's Envoy plugin. Each rule is asked for with each input of envoy-inputs.ts.
package envoy.authz

http := input.attributes.request.http

default allow := false

allow if {
	http.method == "GET"
	input.parsed_path[0] == "public"
}

allow if {
	some role in data.roles[input.attributes.source.principal]
	some grant in data.grants[role]
	grant.method == http.method
	glob.match(grant.path, ["/"], http.path)
}

# Whoever has no certificate gets a page; others are told why.
decision := {"allowed": true, "headers": {"x-caller": caller}, "response_headers_to_add": {"x-checked": "yes"}} if allow

decision := {"allowed": false, "http_status": 401, "body": "who are you?"} if {
	not allow
	not caller
}

decision := {"allowed": false, "http_status": 403, "headers": {"x-reason": reason}} if {
	not allow
	caller
}

caller := name if {
	[_, _, _, name] := split(input.attributes.source.principal, "/")
}

reason := concat(", ", sort([text | some text in reasons]))

reasons contains sprintf("%s may not %s", [caller, http.method])

reasons contains "too large" if to_number(http.headers["content-length"]) > 1000

# JWTs of end users
token := trim_prefix(http.headers.authorization, "Bearer ")

claims := payload if {
	[valid, _, payload] := io.jwt.decode_verify(token, {"cert": data.jwks, "iss": "https://issuer.example", "aud": "shop", "time": data.now})
	valid
}

unverified_claims := io.jwt.decode(token)[1]

token_header := io.jwt.decode(token)[0]

is_signed_es256 := io.jwt.verify_es256(token, data.jwks)

is_signed_rs256 := io.jwt.verify_rs256(token, data.jwks)

is_signed_hs256 := io.jwt.verify_hs256(token, data.secret)

may_write if {
	"write" in split(claims.scope, " ")
	claims.level >= 3
}

# Bodies, queries, addresses
pays_little if input.parsed_body.amount < 100

# Sorted, since a set comes out of WebAssembly in no order.
item_names := sort({item.name | some item in input.parsed_body.items})

item_total := sum([cost |
	some item in input.parsed_body.items
	cost := item.price * item.count
])

page := to_number(input.parsed_query.page[0])

is_inside if net.cidr_contains("10.0.0.0/8", input.attributes.source.address.socketAddress.address)

networks := net.cidr_contains_matches(data.networks, input.attributes.source.address.socketAddress.address)

is_api if regex.match(`^/api/v[0-9]+/`, http.path)

version := to_number(regex.find_n(`[0-9]+`, http.path, 1)[0])

hidden_path := regex.replace(http.path, `/[0-9]{3,}`, "/#")

segments := regex.split(`/+`, trim(http.path, "/"))

matches_template := regex.template_match("/users/{[a-z]+}/cart", http.path, "{", "}")

has_known_prefix := strings.any_prefix_match(http.path, data.prefixes)

is_browser if {
	contains(lower(http.headers["user-agent"]), "mozilla")
}

certificate := {"cn": certs[0].Subject.CommonName, "uris": certs[0].URIStrings, "ca": certs[0].IsCA, "serial": certs[0].SerialNumber, "from": certs[0].NotBefore} if {
	certs := crypto.x509.parse_certificates(urlquery.decode(input.attributes.source.certificate))
}

is_working_hour if {
	[hour, _, _] := time.clock([data.now, "Europe/Berlin"])
	hour >= 8
	hour < 18
}

query_object := urlquery.decode_object(split(http.path, "?")[1])
