# The shape that OPA documents for decisions about requests of Envoy: an object. The source of bundle.tar.gz beside it:
#   opa build -t wasm -e envoy/authz/decision -b . -o bundle.tar.gz
package envoy.authz

import input.attributes.request.http as http

default decision := {"allowed": false}

decision := {
	"allowed": true,
	"headers": {"x-caller": caller, "x-team": team},
	"response_headers_to_add": {"x-checked": "yes"},
	"request_headers_to_remove": ["x-secret"],
	"dynamic_metadata": {"team": team, "page": page},
} if {
	http.method == "GET"
	input.parsed_path[0] == "items"
	team
}

decision := {
	"allowed": false,
	"http_status": 401,
	"body": "who are you?",
	"headers": {"www-authenticate": "Mutual"},
} if not caller

decision := {
	"allowed": false,
	"http_status": 404,
	"body": sprintf("%s: no %s for %s", [http.method, concat("/", input.parsed_path), caller]),
	"headers": {"x-reason": "not yours"},
} if {
	caller
	input.parsed_path[0] == "hidden"
}

caller := input.attributes.source.principal

team := data.teams[caller]

default page := "1"

page := input.parsed_query.page[0]
