# The source of bundle.tar.gz beside it, for tests that need no Go:
#   opa build -t wasm -e spire/result -b . --ignore '*.tar.gz' -o bundle.tar.gz
# Teams that data.teams names register entries below their own prefix; the rest is the operators'. What else data may say opens more, which
# must be refused.
package spire

import data.open

result := {
	"allow": allow,
	"allow_if_admin": allow_if_admin,
	"allow_if_local": allow_if_admin,
	"allow_if_downstream": false,
	"allow_if_agent": allow_if_agent,
} if not silent

silent if input.full_method == data.silent

default allow := false

allow if input.full_method in ["/grpc.health.v1.Health/Check", "/spire.api.server.agent.v1.Agent/AttestAgent"]

allow if input.full_method == "/spire.api.server.bundle.v1.Bundle/GetBundle"

allow if {
	input.full_method == "/spire.api.server.entry.v1.Entry/BatchCreateEntry"
	prefix := data.teams[input.caller]
	count(input.req.entries) > 0
	every entry in input.req.entries {
		startswith(entry.spiffe_id.path, prefix)
	}
}

allow if open == "everybody"

allow if {
	open == "members"
	startswith(input.caller, "spiffe://example.org/")
}

default allow_if_admin := false

allow_if_admin if startswith(input.full_method, "/spire.api.server.")

default allow_if_agent := false

allow_if_agent if input.full_method in [
	"/spire.api.server.agent.v1.Agent/RenewAgent",
	"/spire.api.server.entry.v1.Entry/GetAuthorizedEntries",
	"/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries",
	"/spire.api.server.svid.v1.SVID/BatchNewX509SVID",
]

allow_if_agent if {
	open == "agents"
	input.full_method == "/spire.api.server.entry.v1.Entry/BatchCreateEntry"
}
