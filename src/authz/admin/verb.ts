/** What an RPC of the server's API is for. Each method that operators may call has exactly one; roles grant them. */
export type MethodVerb =
  | 'entries.read' | 'entries.write' | 'agents.read' | 'agents.ban' | 'agents.evict' | 'tokens.create' | 'bundles.read' | 'bundles.write'
  | 'bundle.append' | 'federation.read' | 'federation.write' | 'services.read' | 'services.write' | 'svids.mint'
  | 'revocations.read' | 'revocations.revoke' | 'revocations.lift'
  | 'policies.read' | 'policies.write' | 'authorities.read' | 'authorities.change' | 'cluster.read' | 'cluster.aside'
  | 'server.inspect' | 'server.log'

/**
 * What no method is named for, and what writing never implies: the admin and the downstream flag and the IDs that carry such a right;
 * entries that select agents; another ID for who shows a join token; a partner's bundle deleted with the entries' links to it; a partner's
 * bundle changed, or where it is fetched, of which some members administer here; addresses and local ports, the same on all nodes.
 */
export type GrantVerb =
  'entries.admin' | 'entries.downstream' | 'entries.alias' | 'tokens.alias' | 'bundles.detach' | 'bundles.admin' | 'federation.admin'
  | 'services.address'

export type AdminVerb = MethodVerb | GrantVerb

/** A grant adds to the verb beside it, and is nothing without. */
export const grantVerbs: ReadonlyMap<AdminVerb, MethodVerb> = new Map<GrantVerb, MethodVerb>([
  ['entries.admin', 'entries.write'], ['entries.downstream', 'entries.write'], ['entries.alias', 'entries.write'],
  ['tokens.alias', 'tokens.create'], ['bundles.detach', 'bundles.write'], ['bundles.admin', 'bundles.write'],
  ['federation.admin', 'federation.write'], ['services.address', 'services.write']
])

const spire = '/spire.api.server'
const authority = `${spire}.localauthority.v1.LocalAuthority`
const kinds = ['X509', 'JWT', 'WIT']

const rows: ReadonlyArray<readonly [MethodVerb, string, readonly string[]]> = [
  ['entries.read', `${spire}.entry.v1.Entry`, ['CountEntries', 'ListEntries', 'GetEntry']],
  ['entries.write', `${spire}.entry.v1.Entry`, ['BatchCreateEntry', 'BatchUpdateEntry', 'BatchDeleteEntry']],
  ['agents.read', `${spire}.agent.v1.Agent`, ['CountAgents', 'ListAgents', 'GetAgent']],
  ['agents.ban', `${spire}.agent.v1.Agent`, ['BanAgent']],
  ['agents.evict', `${spire}.agent.v1.Agent`, ['DeleteAgent']],
  ['tokens.create', `${spire}.agent.v1.Agent`, ['CreateJoinToken']],
  ['bundles.read', `${spire}.bundle.v1.Bundle`, ['CountBundles', 'ListFederatedBundles', 'GetFederatedBundle']],
  ['bundles.write', `${spire}.bundle.v1.Bundle`, ['BatchCreateFederatedBundle', 'BatchUpdateFederatedBundle', 'BatchSetFederatedBundle',
    'BatchDeleteFederatedBundle']],
  ['bundle.append', `${spire}.bundle.v1.Bundle`, ['AppendBundle']],
  ['federation.read', `${spire}.trustdomain.v1.TrustDomain`, ['ListFederationRelationships', 'GetFederationRelationship']],
  ['federation.write', `${spire}.trustdomain.v1.TrustDomain`, ['BatchCreateFederationRelationship', 'BatchUpdateFederationRelationship',
    'BatchDeleteFederationRelationship', 'RefreshBundle']],
  ['federation.read', '/assay.server.federation.v1.Federation', ['GetStatus']],
  ['federation.write', '/assay.server.federation.v1.Federation', ['FetchInvited']],
  // Whoever says to others where this domain's bundle is says whose keys are its own.
  ['bundle.append', '/assay.server.federation.v1.Federation', ['Invite', 'SignBundle', 'RaiseBundleSequence']],
  ['services.read', '/assay.server.v1.ServiceRegistry', ['ListServices', 'GetService']],
  ['services.write', '/assay.server.v1.ServiceRegistry', ['BatchCreateService', 'BatchUpdateService', 'BatchDeleteService']],
  ['svids.mint', `${spire}.svid.v1.SVID`, ['MintX509SVID', 'MintJWTSVID', 'MintWITSVID']],
  ['revocations.read', '/assay.server.revocation.v1.Revocation', ['ListRevocations']],
  ['revocations.revoke', '/assay.server.revocation.v1.Revocation', ['Revoke']],
  ['revocations.lift', '/assay.server.revocation.v1.Revocation', ['LiftRevocation']],
  ['policies.read', '/assay.server.policy.v1.Policy', ['GetPolicies', 'ListPolicyVersions']],
  ['policies.write', '/assay.server.policy.v1.Policy', ['ApplyPolicies', 'RollbackPolicies']],
  ['authorities.read', authority, kinds.map(kind => `Get${kind}AuthorityState`)],
  ['authorities.change', authority, [
    ...kinds.flatMap(kind => ['Prepare', 'Activate', 'Taint', 'Revoke'].map(verb => `${verb}${kind}Authority`)),
    'TaintX509UpstreamAuthority', 'RevokeX509UpstreamAuthority'
  ]],
  ['cluster.read', '/assay.server.v1.Cluster', ['GetStatus', 'WatchConvergence']],
  ['cluster.aside', '/assay.server.v1.Cluster', ['StandAside']],
  ['server.inspect', `${spire}.debug.v1.Debug`, ['GetInfo']],
  ['server.inspect', '/grpc.health.v1.Health', ['Check', 'List', 'Watch']],
  ['server.inspect', '/grpc.reflection.v1.ServerReflection', ['ServerReflectionInfo']],
  ['server.inspect', '/grpc.reflection.v1alpha.ServerReflection', ['ServerReflectionInfo']],
  ['server.log', `${spire}.logger.v1.Logger`, ['GetLogger', 'SetLogLevel', 'ResetLogLevel']]
]

/** `/package.Service/Method` to its verb. What agents, downstream servers and everybody call has none. */
export const methodVerbs: ReadonlyMap<string, MethodVerb> = new Map(
  rows.flatMap(([verb, service, methods]) => methods.map(method => [`${service}/${method}`, verb] as const)))

/** Every verb that a role can grant, in the order of the documentation. */
export const adminVerbs: readonly AdminVerb[] = [...new Set<AdminVerb>(rows.flatMap(([verb]) => [
  verb, ...[...grantVerbs].flatMap(([grant, beside]) => beside === verb ? [grant] : [])
]))]

/** Whether it changes nothing. */
export function isReading (verb: AdminVerb): boolean { return verb.endsWith('.read') || verb === 'server.inspect' }
