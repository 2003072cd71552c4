# The source of bundle.tar.gz beside it, for tests that need no Go:
#   opa build -t wasm -e orders/allow -e orders/raw -b . --ignore '*.tar.gz' -o bundle.tar.gz
package orders

default allow := {"allowed": false, "body": "not for you\n"}

allow := {"allowed": true, "headers": {"x-tier-was": tier}} if {
	tier := input.attributes.request.http.headers["x-tier"]
	tier in data.orders.tiers
}

# Of bytes without HTTP it is not asked.
default raw := false

raw if not input.attributes.request.http
