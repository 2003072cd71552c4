/** What a gRPC caller sees; the names are those of the gRPC status codes. */
export type StatusName =
  | 'INVALID_ARGUMENT' | 'NOT_FOUND' | 'ALREADY_EXISTS' | 'PERMISSION_DENIED' | 'UNAUTHENTICATED' | 'UNAVAILABLE'
  | 'UNIMPLEMENTED' | 'INTERNAL' | 'FAILED_PRECONDITION' | 'RESOURCE_EXHAUSTED' | 'DEADLINE_EXCEEDED' | 'CANCELLED' | 'ABORTED'

export interface CatalogueRow {
  readonly status: StatusName
  /** Whether the same call can succeed later without anybody changing anything. */
  readonly retry: boolean
  /** One sentence for the operator: the next command or step. */
  readonly next: string
}

/**
 * Every refusal Assay can give. Callers and tests read the code; `docs/errors.md` is generated from this table.
 * Keep it sorted by topic, and codes stable once released.
 */
export const errorCatalogue = {
  // SPIFFE IDs, trust domains, selectors, entries
  trust_domain_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'use 1 to 255 of a-z 0-9 . - _ as the trust domain name' },
  spiffe_id_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'write the ID as spiffe://<trust domain>/<path>' },
  spiffe_id_not_allowed: { status: 'INVALID_ARGUMENT', retry: false, next: 'use an ID of this trust domain outside /spire' },
  selector_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'write selectors as type:value, e.g. unix:uid:1000' },
  entry_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct the named field; see `assay entry create --help`' },
  entry_not_found: { status: 'NOT_FOUND', retry: false, next: 'list entries with `assay entry show`' },
  entry_exists: { status: 'ALREADY_EXISTS', retry: false, next: 'change the existing entry with `assay entry update`' },
  federated_bundle_unknown: { status: 'INTERNAL', retry: false, next: 'store that domain\'s bundle first: `assay bundle set`' },
  entry_not_authorized: { status: 'NOT_FOUND', retry: true, next: 'check that the entry\'s parent is this agent: `assay entry show`' },
  // Federation
  federation_invalid: { status: 'INVALID_ARGUMENT', retry: false, next: 'name a trust domain other than this one' },
  federation_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct the named field; see `assay federation create --help`' },
  federation_not_found: { status: 'NOT_FOUND', retry: false, next: 'list relationships with `assay federation list`' },
  invitation_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'give all of what `assay federation invite` printed' },
  invitation_expired: { status: 'FAILED_PRECONDITION', retry: false, next: 'ask for a new one: `assay federation invite` there' },
  invitation_untrusted: { status: 'UNAUTHENTICATED', retry: false, next: 'ask who sent it, and for a new one; see docs/federation.md' },
  federation_exists: { status: 'ALREADY_EXISTS', retry: false, next: 'change the existing one with `assay federation update`' },
  // Services
  service_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct the named field; see `assay service create --help`' },
  service_not_found: { status: 'NOT_FOUND', retry: false, next: 'list services with `assay service list`' },
  service_exists: { status: 'ALREADY_EXISTS', retry: false, next: 'take another name, address or local port, or `assay service update`' },
  // Policies
  policy_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct what is named; see docs/policies.md' },
  policy_unsupported: { status: 'INVALID_ARGUMENT', retry: false, next: 'say it another way; docs/policies.md: what each engine can do' },
  provider_failed: { status: 'UNAVAILABLE', retry: true, next: 'see the log for what the asked engine said; until then nobody is let in' },
  policy_too_open: { status: 'INVALID_ARGUMENT', retry: false, next: 'close what is named; see docs/administration.md' },
  decision_not_found: { status: 'NOT_FOUND', retry: false, next: 'it was dropped, sampled away or forgotten: ask another log' },
  policy_not_signed_off: { status: 'FAILED_PRECONDITION', retry: false, next: 'have the flips reviewed; see docs/policy-operation.md' },
  // Rego
  rego_bundle_invalid: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct what is named, then build it again; see docs/rego.md' },
  rego_bundle_untrusted: { status: 'PERMISSION_DENIED', retry: false, next: 'sign the bundle with `opa sign`; see docs/rego.md' },
  rego_bundle_unavailable: { status: 'UNAVAILABLE', retry: true, next: 'check the source\'s path or URL, and what answers there' },
  rego_entrypoint_unknown: { status: 'NOT_FOUND', retry: false, next: 'build the bundle with `opa build -t wasm -e` and this path' },
  rego_evaluation_failed: { status: 'INTERNAL', retry: false, next: 'try the same input with `opa eval`; limits are in docs/rego.md' },
  rego_timeout: { status: 'DEADLINE_EXCEEDED', retry: false, next: 'find the loop with `opa eval --profile`, or raise the time limit' },
  policy_conflict: { status: 'ABORTED', retry: false, next: 'see what is active with `assay policy show`, then apply again on top of it' },
  policy_version_not_found: { status: 'NOT_FOUND', retry: false, next: 'list versions with `assay policy history`' },
  // Documents and addresses
  json_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'send one JSON text (RFC 8259) in which no name is repeated' },
  endpoint_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'write unix:///absolute/path or tcp://<IP address>:<port>' },
  // Bundles
  bundle_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'give a SPIFFE bundle (JSON) or PEM certificates' },
  bundle_not_found: { status: 'NOT_FOUND', retry: false, next: 'list bundles with `assay bundle list`' },
  bundle_exists: { status: 'ALREADY_EXISTS', retry: false, next: 'replace it with `assay bundle set`' },
  bundle_in_use: { status: 'FAILED_PRECONDITION', retry: false, next: 'delete with --mode dissociate or --mode delete' },
  // Federation
  acme_failed: { status: 'UNAVAILABLE', retry: true, next: 'see what the CA says, and that it reaches port 443 of the domain name' },
  bundle_endpoint_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'give trust domain, profile and https://host/path' },
  bundle_endpoint_id_unknown: { status: 'FAILED_PRECONDITION', retry: false, next: 'store its domain\'s bundle: `assay bundle set`' },
  bundle_endpoint_unreachable: { status: 'UNAVAILABLE', retry: true, next: 'check the URL, the network and what answers there' },
  bundle_endpoint_slow: { status: 'DEADLINE_EXCEEDED', retry: true, next: 'check the network, and with the partner its endpoint' },
  bundle_endpoint_untrusted: { status: 'UNAUTHENTICATED', retry: false, next: 'ask the partner what it shows; see docs/federation.md' },
  bundle_redirect_refused: { status: 'FAILED_PRECONDITION', retry: false, next: 'give the URL where the bundle is now' },
  fetched_bundle_malformed: { status: 'FAILED_PRECONDITION', retry: false, next: 'tell the partner; its last good bundle is in force' },
  fetched_bundle_too_large: { status: 'RESOURCE_EXHAUSTED', retry: false, next: 'tell the partner; keys that it no longer uses should go' },
  fetched_bundle_foreign: { status: 'FAILED_PRECONDITION', retry: false, next: 'give the URL of this trust domain\'s own endpoint' },
  bundle_unpublished: { status: 'UNAVAILABLE', retry: true, next: 'see what the store says; what was put there before stays' },
  fetched_bundle_untrusted: { status: 'UNAUTHENTICATED', retry: true, next: 'ask the partner to sign it anew: `assay bundle sign`' },
  fetched_bundle_older: { status: 'FAILED_PRECONDITION', retry: true, next: 'ask the partner why; `assay bundle set` takes it' },
  // X.509
  certificate_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'inspect the file with `assay svid inspect`' },
  csr_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'send a PKCS#10 request in DER, signed by its own key' },
  key_unsupported: { status: 'INVALID_ARGUMENT', retry: false, next: 'use P-256, P-384, P-521 or RSA of 2048 to 8192 bits' },
  x509_svid_invalid: { status: 'UNAUTHENTICATED', retry: false, next: 'inspect the chain with `assay svid inspect`' },
  x509_chain_untrusted: { status: 'UNAUTHENTICATED', retry: false, next: 'compare chain and bundle with `assay svid verify`' },
  x509_svid_expired: { status: 'UNAUTHENTICATED', retry: false, next: 'fetch a fresh SVID; check the clocks of both machines' },
  // JWT
  jwt_svid_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'inspect the token with `assay svid inspect`' },
  jwt_svid_invalid: { status: 'INVALID_ARGUMENT', retry: false, next: 'check audience, time and bundle with `assay svid verify`' },
  wit_disabled: { status: 'UNIMPLEMENTED', retry: false, next: 'ask for an X509-SVID or a JWT-SVID instead' },
  wit_key_missing: { status: 'INTERNAL', retry: false, next: 'ask for an X509-SVID or a JWT-SVID instead' },
  jwt_disabled: { status: 'UNIMPLEMENTED', retry: false, next: 'JWT-SVIDs are switched off on this server (disable_jwt_svids)' },
  // Authorities
  authority_unknown: { status: 'INVALID_ARGUMENT', retry: false, next: 'list them: `assay localauthority x509 show` or `… jwt show`' },
  authority_not_prepared: { status: 'INTERNAL', retry: false, next: 'prepare one: `assay localauthority x509 prepare` or `… jwt prepare`' },
  authority_in_use: { status: 'INVALID_ARGUMENT', retry: false, next: 'activate another authority, then taint and revoke the old one' },
  no_upstream_authority: { status: 'FAILED_PRECONDITION', retry: false, next: 'use `assay localauthority`: no upstream authority here' },
  upstream_authority_signs: { status: 'FAILED_PRECONDITION', retry: false, next: 'the root is the upstream\'s: `assay upstreamauthority`' },
  upstream_unavailable: { status: 'UNAVAILABLE', retry: true, next: 'check the upstream authority and the way to it' },
  upstream_refused: { status: 'FAILED_PRECONDITION', retry: false, next: 'see docs/upstream-authorities.md: what it must allow' },
  composition_invalid: { status: 'INTERNAL', retry: false, next: 'correct or remove the credential composer; see docs/configuration.md' },
  upstream_invalid: { status: 'FAILED_PRECONDITION', retry: false, next: 'correct what is named; see docs/upstream-authorities.md' },
  ca_path_exhausted: { status: 'FAILED_PRECONDITION', retry: false, next: 'give the CA above a larger path length, or none' },
  authority_not_tainted: { status: 'INTERNAL', retry: false, next: 'taint it first, so that what it signed is replaced before it goes' },
  authority_relied_on: { status: 'FAILED_PRECONDITION', retry: true, next: 'see `assay status`; -force revokes and breaks who is named' },
  servers_below: { status: 'FAILED_PRECONDITION', retry: true, next: 'look at each level below, then repeat it with -downstreamReady' },
  // Revocations
  revocation_not_found: { status: 'NOT_FOUND', retry: false, next: 'list them with `assay revoke list`' },
  spiffe_id_revoked: { status: 'PERMISSION_DENIED', retry: false, next: 'see `assay revoke list`; `assay revoke lift` ends it' },
  svid_revoked: { status: 'PERMISSION_DENIED', retry: false, next: 'see `assay revoke list`; fetch a new SVID' },
  svid_not_recorded: { status: 'NOT_FOUND', retry: false, next: 'give the certificate itself: `assay revoke svid -cert FILE`' },
  // Callers
  no_identity_issued: { status: 'PERMISSION_DENIED', retry: true, next: 'register the workload: `assay entry create`' },
  workload_api_unavailable: { status: 'UNAVAILABLE', retry: true, next: 'check that its agent runs and has an entry for this one' },
  svid_unavailable: { status: 'UNAVAILABLE', retry: true, next: 'the agent is having it signed; see its log if that lasts' },
  workload_attestation_failed: { status: 'UNAVAILABLE', retry: true, next: 'see the agent\'s log for the attestor that failed' },
  secret_not_authorized: { status: 'INVALID_ARGUMENT', retry: true, next: 'register the proxy for the IDs that its configuration names' },
  sds_validator_unsupported: { status: 'INTERNAL', retry: false, next: 'use Envoy 1.18 or newer, or name one bundle instead of all' },
  caller_gone: { status: 'PERMISSION_DENIED', retry: false, next: 'the calling process ended or changed its program; connect again' },
  connection_unknown: { status: 'PERMISSION_DENIED', retry: false, next: 'it closed, or is of another network namespace; connect again' },
  connection_ambiguous: { status: 'PERMISSION_DENIED', retry: false, next: 'let only processes with the same selectors hold the socket' },
  socket_lookup_failed: { status: 'UNAVAILABLE', retry: true, next: 'run the agent as root; see docs/redirect.md for the kernel' },
  security_header_missing: { status: 'INVALID_ARGUMENT', retry: false, next: 'send the metadata workload.spiffe.io: true' },
  delegate_not_authorized: { status: 'PERMISSION_DENIED', retry: false, next: 'add its SPIFFE ID to the agent\'s authorized_delegates' },
  broker_not_authorized: { status: 'PERMISSION_DENIED', retry: false, next: 'add its SPIFFE ID to the agent\'s experimental.broker' },
  reference_not_allowed: { status: 'PERMISSION_DENIED', retry: false, next: 'add the type to the broker\'s allowed_reference_types' },
  workload_reference_invalid: { status: 'INVALID_ARGUMENT', retry: false, next: 'send one reference of a type in docs/broker.md' },
  workload_not_found: { status: 'NOT_FOUND', retry: false, next: 'the workload ended or never was on this node; drop what it had' },
  workload_not_entitled: { status: 'PERMISSION_DENIED', retry: true, next: 'register the workload: `assay entry create`' },
  authorization_denied: { status: 'PERMISSION_DENIED', retry: false, next: 'call over the admin socket or with an admin SVID' },
  administration_denied: { status: 'PERMISSION_DENIED', retry: false, next: 'see what your roles cover: `assay role check`' },
  peer_unauthenticated: { status: 'UNAUTHENTICATED', retry: false, next: 'present a valid X509-SVID of the expected trust domain' },
  // Agents and attestation
  agent_id_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'agent IDs begin spiffe://<trust domain>/spire/agent/' },
  agent_not_found: { status: 'NOT_FOUND', retry: false, next: 'list agents with `assay agent list`' },
  agent_banned: { status: 'PERMISSION_DENIED', retry: false, next: 'banned by an operator; `assay agent evict` lets it attest again' },
  agent_not_attested: { status: 'PERMISSION_DENIED', retry: false, next: 'attest again: start the agent with a new join token' },
  agent_not_active: { status: 'PERMISSION_DENIED', retry: false, next: 'a newer SVID of this agent is in use; attest again' },
  agent_expired: { status: 'PERMISSION_DENIED', retry: false, next: 'attest again: start the agent with a new join token' },
  agent_must_reattest: { status: 'PERMISSION_DENIED', retry: false, next: 'attest again instead of renewing' },
  cache_unusable: { status: 'FAILED_PRECONDITION', retry: false, next: 'nothing: the agent writes a new cache once it reaches a server' },
  cache_rolled_back: { status: 'FAILED_PRECONDITION', retry: false, next: 'find out who put an old cache back; the servers are asked' },
  cache_too_old: { status: 'FAILED_PRECONDITION', retry: false, next: 'let the agent reach a server, or raise offline_max_age' },
  attestation_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'send params with data and a CSR first' },
  attestation_refused: { status: 'PERMISSION_DENIED', retry: false, next: 'correct what is named; see docs/node-attestors.md' },
  kubernetes_unreachable: { status: 'UNAVAILABLE', retry: true, next: 'check the API server and the rights there; see docs/kubernetes.md' },
  volume_request_invalid: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct what is named in the pod\'s volume; see docs/csi.md' },
  volume_not_found: { status: 'NOT_FOUND', retry: false, next: 'the pod went, or its volume was never published on this node' },
  volume_source_missing: { status: 'UNAVAILABLE', retry: true, next: 'start the agent of this node, or correct -workloadSocketDir' },
  volume_mount_failed: { status: 'INTERNAL', retry: true, next: 'see that the driver is privileged, with mounts both ways: docs/csi.md' },
  template_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct what is named; see docs/controller.md' },
  template_not_rendered: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct the template, the pod or the node\'s certificate' },
  resource_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct the named field of the resource; see docs/controller.md' },
  attestor_unknown: { status: 'FAILED_PRECONDITION', retry: false, next: 'configure this node attestor on the server' },
  join_token_invalid: { status: 'INVALID_ARGUMENT', retry: false, next: 'make a new token: `assay token generate`' },
  join_token_exists: { status: 'INTERNAL', retry: false, next: 'choose another token, or leave it to the server' },
  // Requests
  message_malformed: { status: 'INTERNAL', retry: false, next: 'the peer sent bytes that are no such message: check its version' },
  argument_invalid: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct the named argument' },
  page_token_malformed: { status: 'INTERNAL', retry: false, next: 'start again without a page token' },
  server_overloaded: { status: 'RESOURCE_EXHAUSTED', retry: true, next: 'retry when the answer says; if it lasts, add replicas' },
  rate_limited: { status: 'RESOURCE_EXHAUSTED', retry: true, next: 'retry with back-off' },
  workload_rate_limited: { status: 'UNAVAILABLE', retry: true, next: 'retry with back-off; or raise it in experimental.ratelimit' },
  not_converged: { status: 'DEADLINE_EXCEEDED', retry: true, next: 'the change is made; see who lacks it with `assay status`' },
  cluster_api_missing: { status: 'UNIMPLEMENTED', retry: false, next: 'ask an Assay server; a SPIRE server cannot tell who has a change' },
  message_too_large: { status: 'RESOURCE_EXHAUSTED', retry: false, next: 'send less in one message' },
  not_implemented: { status: 'UNIMPLEMENTED', retry: false, next: 'this method is not offered here' },
  deadline_exceeded: { status: 'DEADLINE_EXCEEDED', retry: true, next: 'retry with a longer deadline' },
  cancelled: { status: 'CANCELLED', retry: true, next: 'the caller went away or the process is stopping' },
  server_unreachable: { status: 'UNAVAILABLE', retry: true, next: 'check that the server runs and the address is right' },
  server_initializing: { status: 'UNAVAILABLE', retry: true, next: 'retry in a moment: the process is starting, or waits for its server' },
  server_stopping: { status: 'UNAVAILABLE', retry: true, next: 'retry: the process is stopping or being restarted' },
  // Taking a trust domain over from SPIRE
  takeover_blocked: { status: 'FAILED_PRECONDITION', retry: false, next: 'see `assay takeover plan`, and settle what it marks with !' },
  takeover_unknown: { status: 'FAILED_PRECONDITION', retry: false, next: 'name the file of `assay takeover start` with -state' },
  takeover_over: { status: 'FAILED_PRECONDITION', retry: false, next: 'to begin another one, move the state file away' },
  takeover_not_settled: { status: 'FAILED_PRECONDITION', retry: true, next: 'wait for the time named; see `assay takeover status`' },
  takeover_agents_left: { status: 'FAILED_PRECONDITION', retry: true, next: 'move them, or wait until their SVIDs end; docs/takeover.md' },
  takeover_agents_moved: { status: 'FAILED_PRECONDITION', retry: true, next: 'let SPIRE\'s agents run there again; docs/takeover.md' },
  takeover_spire_gone: {
    status: 'FAILED_PRECONDITION', retry: false, next: 'see `assay takeover status -spireGone`; docs/takeover.md says what is left to do'
  },
  takeover_refused: { status: 'FAILED_PRECONDITION', retry: false, next: 'settle what is named, then repeat it: what is done stays done' },
  // OpenID Connect
  oidc_keys_unavailable: { status: 'UNAVAILABLE', retry: true, next: 'see that what it reads keys from runs; see docs/oidc.md' },
  oidc_host_unknown: { status: 'INVALID_ARGUMENT', retry: false, next: 'ask for one of the names in `domains`, or add this one' },
  oidc_request_refused: { status: 'INVALID_ARGUMENT', retry: false, next: 'ask with GET for one of the two documents; see docs/oidc.md' },
  // Files for programs
  cert_dir_unsafe: { status: 'FAILED_PRECONDITION', retry: false, next: 'take a folder that only root or we can change; docs/files.md' },
  files_not_written: { status: 'UNAVAILABLE', retry: true, next: 'make room, or correct the folder\'s mode; what was there stays' },
  hint_not_found: { status: 'NOT_FOUND', retry: true, next: 'give an entry this hint: `assay entry update -hint`, or name another one' },
  reload_failed: { status: 'UNAVAILABLE', retry: true, next: 'see why in the program\'s log; it is tried again; docs/files.md' },
  svid_not_served: { status: 'FAILED_PRECONDITION', retry: true, next: 'see that it reads these files and reloads; docs/files.md' },
  // Storage and keys
  datastore_unavailable: { status: 'UNAVAILABLE', retry: true, next: 'check that the database runs and is reachable' },
  datastore_outcome_unknown: { status: 'UNAVAILABLE', retry: true, next: 'look whether the change was made, then ask for it again if not' },
  datastore_locked: { status: 'FAILED_PRECONDITION', retry: false, next: 'stop the other server, or move: `assay datastore migrate`' },
  datastore_in_use: { status: 'FAILED_PRECONDITION', retry: false, next: 'stop every server of this database, then repeat the command' },
  datastore_not_empty: { status: 'FAILED_PRECONDITION', retry: false, next: 'take an empty one; only `restore -force` overwrites' },
  datastore_older: { status: 'FAILED_PRECONDITION', retry: false, next: 'use the version that runs on it, or start this one\'s server' },
  datastore_newer: { status: 'FAILED_PRECONDITION', retry: false, next: 'run the newer version that wrote this database' },
  datastore_copy_differs: { status: 'INTERNAL', retry: false, next: 'nothing was written: report it, and stay with the old database' },
  datastore_corrupt: { status: 'INTERNAL', retry: false, next: 'move it away and restore a backup: `assay datastore restore`' },
  backup_malformed: { status: 'INVALID_ARGUMENT', retry: false, next: 'use another backup: no line of a damaged one can be relied on' },
  backup_newer: { status: 'FAILED_PRECONDITION', retry: false, next: 'restore it with the version that wrote it, or a newer one' },
  trust_domain_differs: { status: 'FAILED_PRECONDITION', retry: false, next: 'use configuration, database and backup of one trust domain' },
  replica_stale: { status: 'UNAVAILABLE', retry: true, next: 'ask another replica; see `assay server status` for the one that is cut off' },
  replica_aside: { status: 'UNAVAILABLE', retry: true, next: 'ask another replica; this one comes back by itself' },
  replica_needed: { status: 'FAILED_PRECONDITION', retry: false, next: 'start another replica, or wait until it is back, then ask again' },
  drill_refused: { status: 'FAILED_PRECONDITION', retry: false, next: 'do what the checks that failed name, then run the drill again' },
  drill_failed: { status: 'FAILED_PRECONDITION', retry: false, next: 'see the logs of the agents and replicas that the report names' },
  lease_lost: { status: 'UNAVAILABLE', retry: true, next: 'another replica does this now; see `assay server status`' },
  key_store_corrupt: { status: 'INTERNAL', retry: false, next: 'restore the key file from a backup, or remove it to start anew' },
  key_encryption_key_invalid: { status: 'FAILED_PRECONDITION', retry: false, next: 'give every replica the same key-encryption key' },
  key_store_changed: { status: 'FAILED_PRECONDITION', retry: false, next: 'give each server its own keys_path, then restart this one' },
  key_service_unreachable: { status: 'UNAVAILABLE', retry: true, next: 'check address, network and that it runs; see docs/keys.md' },
  key_service_sealed: { status: 'UNAVAILABLE', retry: true, next: 'unseal it: `vault operator unseal`; nothing is lost meanwhile' },
  key_service_throttled: { status: 'RESOURCE_EXHAUSTED', retry: true, next: 'raise its quota; see docs/keys.md for what calls it' },
  key_service_failed: { status: 'UNAVAILABLE', retry: true, next: 'see the log of the key service itself' },
  key_service_refused: { status: 'INTERNAL', retry: false, next: 'renew or widen the server\'s credentials there; see docs/keys.md' },
  key_service_malformed: { status: 'INTERNAL', retry: false, next: 'find out what answers at that address, and whether its keys changed' },
  key_service_key_gone: { status: 'UNAVAILABLE', retry: true, next: 'find out who removed it; another authority takes over by itself' },
  // Configuration and files
  usage_invalid: { status: 'INVALID_ARGUMENT', retry: false, next: 'see the command\'s --help' },
  config_invalid: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct the named key; see docs/configuration.md' },
  file_unusable: { status: 'INVALID_ARGUMENT', retry: false, next: 'check the path and its permissions' },
  plugin_not_started: { status: 'FAILED_PRECONDITION', retry: false, next: 'see what it wrote to the log, and docs/plugins.md' },
  plugin_checksum_differs: { status: 'FAILED_PRECONDITION', retry: false, next: 'find out who changed it, or correct plugin_checksum' },
  plugin_handshake_failed: { status: 'FAILED_PRECONDITION', retry: false, next: 'give a SPIRE plugin of this type; see docs/plugins.md' },
  plugin_config_refused: { status: 'INVALID_ARGUMENT', retry: false, next: 'correct what the plugin names in its plugin_data' },
  plugin_unavailable: { status: 'UNAVAILABLE', retry: true, next: 'it is started again by itself; see its lines in the log' },
  plugin_failed: { status: 'UNAVAILABLE', retry: true, next: 'see the plugin\'s own lines in the log' },
  keyring_unusable: { status: 'FAILED_PRECONDITION', retry: false, next: 'let the agent use add_key and keyctl, or take another Sealing' },
  socket_in_use: { status: 'FAILED_PRECONDITION', retry: false, next: 'stop the process that listens there, or choose another path' },
  netns_unusable: { status: 'FAILED_PRECONDITION', retry: false, next: 'check the path; entering namespaces needs CAP_SYS_ADMIN' },
  proxy_not_admitted: { status: 'PERMISSION_DENIED', retry: false, next: 'name its selectors in mesh.proxy_selectors of the agent' },
  proxy_unready: { status: 'UNAVAILABLE', retry: true, next: 'see `assay mesh status`, and the proxy\'s lines in the agent\'s log' },
  proxy_failed: { status: 'FAILED_PRECONDITION', retry: false, next: 'read the proxy\'s lines in the agent\'s log' },
  address_unusable: { status: 'FAILED_PRECONDITION', retry: false, next: 'choose another address or port, or stop what listens there' },
  cni_network_unusable: {
    status: 'FAILED_PRECONDITION', retry: true, next: 'install the cluster\'s network, with a *.conflist: docs/mesh-kubernetes.md'
  },
  redirect_unavailable: { status: 'FAILED_PRECONDITION', retry: false, next: 'run as root where nft or iptables is; see docs/redirect.md' },
  redirect_failed: { status: 'INTERNAL', retry: false, next: 'see `assay redirect list` for what is in force, then apply or remove again' },
  trust_bundle_unavailable: { status: 'UNAVAILABLE', retry: true, next: 'check trust_bundle_url, the network and what answers there' },
  server_untrusted: { status: 'UNAUTHENTICATED', retry: true, next: 'see docs/operations.md: an agent that cannot return to its servers' },
  agent_untrusted: { status: 'UNAUTHENTICATED', retry: true, next: 'see docs/operations.md: an agent that cannot return to its servers' },
  bootstrap_untrusted: { status: 'UNAUTHENTICATED', retry: false, next: 'give the output of `assay bundle show` as trust_bundle_path' }
} as const satisfies Record<string, CatalogueRow>

export type ErrorCode = keyof typeof errorCatalogue

export interface SpiffeErrorOptions {
  /** The lower error; logged, never sent to a caller. */
  readonly cause?: unknown
  /** Requirement of the standard that was broken, e.g. `X509-06`; shown by `assay svid verify`. */
  readonly requirement?: string | undefined
  /** Facts safe to show, for logs and `--output json`. Never secrets. */
  readonly details?: Readonly<Record<string, unknown>> | undefined
  /** After how many milliseconds a retry is welcome; sent to callers as `google.rpc.RetryInfo`. */
  readonly retryAfterMs?: number | undefined
}

/** A refusal: expected, coded, explained. Whatever is not a `SpiffeError` is a bug. */
export class SpiffeError extends Error {
  readonly code: ErrorCode
  readonly requirement: string | undefined
  readonly details: Readonly<Record<string, unknown>> | undefined
  readonly retryAfterMs: number | undefined

  /** @param message lower case, no final period: the rule and the offending value, never a secret */
  constructor (code: ErrorCode, message: string, options: SpiffeErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'SpiffeError'
    this.code = code
    this.requirement = options.requirement
    this.details = options.details
    this.retryAfterMs = options.retryAfterMs
  }

  get row (): CatalogueRow { return errorCatalogue[this.code] }
}

/** Reads the code of a refusal, or `undefined` for anything else. */
export function codeOf (error: unknown): ErrorCode | undefined {
  return error instanceof SpiffeError ? error.code : undefined
}
