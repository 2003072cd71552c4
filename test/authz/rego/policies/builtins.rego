# What the host computes, each on values that show where Go and JavaScript differ. None of these needs an input.
package builtins

formats := [
	sprintf("%d|%5d|%-5d|%05d|%+d|%x|%X|%o|%b|%c", [1, 2, 3, 4, 5, 255, 255, 8, 5, 65]),
	sprintf("%s|%8s|%-8s|%.2s|%q|%v", ["a", "b", "c", "defg", "h\"i", "j"]),
	sprintf("%f|%.2f|%8.3f|%e|%g|%v", [1.5, 2.345, 3.14159, 12345.678, 0.00001234, 2.5]),
	sprintf("%v|%v|%v|%v", [[1, "a", null], {"b": true}, {1}, set()]),
	sprintf("%s|%s|%v", [true, null, ["x"]]),
	sprintf("%d %d", [1]),
	sprintf("%d", [1, "two", 3.5]),
	sprintf("%d|%s", ["text", 7]),
	sprintf("%%|%[2]s|%[1]s", ["one", "two"]),
	sprintf("%v|%g|%v", [1234567.5, 1234567.5, 0.000001]),
	sprintf("%d", [123456789012345678901]),
	sprintf("%t", ["yes"]),
]

durations := [time.parse_duration_ns(text) | some text in ["1h", "1.5s", "300ms", "-2m3s", "1us"]]

bad_duration := time.parse_duration_ns("1 hour")

instants := [
	time.parse_rfc3339_ns("2026-11-26T05:30:00Z"),
	time.parse_rfc3339_ns("2026-11-26T05:30:00.123456789+02:00"),
	time.parse_ns("2006-01-02", "2026-11-26"),
	time.parse_ns("RFC1123", "Thu, 26 Nov 2026 05:30:00 UTC"),
]

ns := 1795671000123456789

dates := [
	time.date(ns), time.clock(ns), time.weekday(ns),
	time.date([ns, "America/New_York"]), time.clock([ns, "America/New_York"]),
	time.add_date(ns, 1, 2, 3), time.add_date(ns, 0, -11, 40), time.diff(ns, 1700000000000000000), time.diff(1700000000000000000, ns),
	time.format(ns), time.format([ns, "Asia/Kolkata"]), time.format([ns, "UTC", "Mon Jan _2 15:04:05 2006"]),
	time.format([ns, "Europe/Berlin", "RFC1123Z"]),
]

bytes := [units.parse_bytes(text) | some text in ["1", "10KB", "2KiB", "1.5Mi", "3g", "0.5TB"]]

quantities := [units.parse(text) | some text in ["1", "100m", "2k", "3Ki", "1.5M", "4G"]]

bad_quantities := [units.parse(text) | some text in ["", "m", "1 k", "1x"]]

networks := [
	sort(net.cidr_expand("192.0.2.8/30")), net.cidr_is_valid("10.0.0.0/8"), net.cidr_is_valid("10.0.0.0/33"), net.cidr_is_valid("10.0.0.1"),
	net.cidr_merge(["192.0.2.0/25", "192.0.2.128/25", "198.51.100.7/32", "2001:db8::/33", "2001:db8:8000::/33"]),
	net.cidr_contains_matches({"a": "10.0.0.0/8", "b": ["192.0.2.0/24", 1]}, ["10.1.2.3", "192.0.2.9/32", "172.16.0.1"]),
]

patterns := [
	regex.replace("Hello World", `(?i)(h)ello`, "$1-${1}x$$"),
	regex.replace("aaa", "a*", "b"), regex.replace("abc", "", "-"), regex.replace("john smith", `(?P<first>\w+) (?P<last>\w+)`, "$last, $first"),
	regex.split(",", "a,b,,c"), regex.split("", "abc"), regex.split("x", ""),
	regex.find_n(`[[:alpha:]]+`, "ab1cd2ef", -1), regex.find_n(`\bfoo\b`, "foo food foo", 1), regex.find_n(`a|ab`, "abab", -1),
	regex.find_n(`^.$`, "\n", -1), regex.find_n(`(?m)^\w+$`, "one\ntwo", -1), regex.find_n(`(?s).`, "\n", -1),
	regex.find_n(`\pL+`, "äöü x", -1), regex.find_n(`[^\s,]+`, "a, b", -1), regex.find_n(`\Qa.b\E+`, "a.bb axb", -1), regex.find_n(`\d{2,3}?`, "12345", -1),
]

refused_patterns := [regex.replace("a", pattern, "b") | some pattern in [`(?=a)`, `(a)\1`, `(?<!a)b`, `a**`, `[z-a]`, `(`, `\y`]]

texts := [
	strings.any_prefix_match(["abc", "xyz"], {"x", "q"}), strings.any_suffix_match("abc", ["bc"]), strings.count("cheese", "e"), indexof_n("sad sad", "sad"),
	hex.encode("hällo"), hex.decode("6869"), base64url.encode_no_pad("a?>"), urlquery.encode("a b&c=ä/~*'"), urlquery.decode("a+b%26c"),
	urlquery.encode_object({"a": "1 2", "b": ["x", "y"], "c": {"z"}}), urlquery.decode_object("a=1&b=2&a=3&c"),
	yaml.unmarshal("a: 1\nb: [x, true, null, 1.5]"), yaml.is_valid("a: [1"), yaml.is_valid("a: 1"), glob.quote_meta("*.x[1]"),
]

values := [
	json.patch({"a": {"b": 1}, "c": [1, 2]}, [{"op": "add", "path": "/a/d", "value": 2}, {"op": "remove", "path": "c/0"}]),
	json.patch({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}, {"op": "move", "from": "/a", "path": "/b"}]),
	object.subset({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}), object.subset([1, 2, 3], [2, 3]), object.subset({1, 2}, {3}), object.subset([1, 2], {2, 1}),
	numbers.range_step(1, 10, 3), numbers.range_step(5, 1, 2),
	semver.compare("1.2.3", "1.2.4"), semver.compare("1.0.0-alpha.1", "1.0.0-alpha.beta"), semver.compare("1.0.0+a", "1.0.0+b"), semver.is_valid("1.2"),
]

failed_patch := json.patch({"a": 1}, [{"op": "remove", "path": "/b"}])

hashes := [
	crypto.md5("a"), crypto.sha1("a"), crypto.sha256("a"), crypto.hmac.sha256("a", "k"), crypto.hmac.sha512("a", "k"), crypto.hmac.equal("a", "a"),
]

# Compiled into the module; here since a policy goes from these to the host's and back.
native := [
	json.unmarshal(`{"a": [1, 2.5, "x"]}`), json.marshal({"b": {3, 1}}), base64.decode("aGk="), object.get({"a": 1}, "b", 2), sort(graph.reachable({"a": ["b"], "b": []}, ["a"])),
	9007199254740993 + 1, 0.1 + 0.2, 7 % 3, round(2.5), numbers.range(1, 4), max({3, 9}), upper("straße"), substring("häh", 1, 1), replace("a.b", ".", "-"),
]
