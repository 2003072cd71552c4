/** Who may call: over the local socket, with an admin's SVID, with an attested agent's, with a downstream server's, or anybody. */
export type CallerClass = 'anyone' | 'local' | 'admin' | 'agent' | 'downstream'

const operator: readonly CallerClass[] = ['local', 'admin']
const local: readonly CallerClass[] = ['local']
const agent: readonly CallerClass[] = ['agent']
const downstream: readonly CallerClass[] = ['downstream']
const anyone: readonly CallerClass[] = ['anyone']

const server = '/spire.api.server'

/** Every method of the server's API with its callers (spire-surface §1.3 to §1.9) and our own. A method that is not here is refused. */
export const serverApiPolicy: ReadonlyMap<string, readonly CallerClass[]> = new Map([
  ...rows(`${server}.agent.v1.Agent`, operator, ['CountAgents', 'ListAgents', 'GetAgent', 'DeleteAgent', 'BanAgent', 'CreateJoinToken']),
  ...rows(`${server}.agent.v1.Agent`, anyone, ['AttestAgent']),
  ...rows(`${server}.agent.v1.Agent`, agent, ['RenewAgent', 'PostStatus']),
  ...rows(`${server}.bundle.v1.Bundle`, anyone, ['GetBundle']),
  ...rows(`${server}.bundle.v1.Bundle`, operator, ['CountBundles', 'AppendBundle', 'ListFederatedBundles', 'BatchCreateFederatedBundle',
    'BatchUpdateFederatedBundle', 'BatchSetFederatedBundle', 'BatchDeleteFederatedBundle']),
  ...rows(`${server}.bundle.v1.Bundle`, [...operator, 'agent'], ['GetFederatedBundle']),
  ...rows(`${server}.bundle.v1.Bundle`, downstream, ['PublishJWTAuthority', 'PublishWITAuthority']),
  ...rows(`${server}.entry.v1.Entry`, operator, ['CountEntries', 'ListEntries', 'GetEntry', 'BatchCreateEntry', 'BatchUpdateEntry',
    'BatchDeleteEntry']),
  ...rows(`${server}.entry.v1.Entry`, agent, ['GetAuthorizedEntries', 'SyncAuthorizedEntries']),
  ...rows(`${server}.svid.v1.SVID`, operator, ['MintX509SVID', 'MintJWTSVID', 'MintWITSVID']),
  ...rows(`${server}.svid.v1.SVID`, agent, ['BatchNewX509SVID', 'NewJWTSVID', 'BatchNewWITSVID']),
  ...rows(`${server}.svid.v1.SVID`, downstream, ['NewDownstreamX509CA']),
  ...rows(`${server}.trustdomain.v1.TrustDomain`, operator, ['ListFederationRelationships', 'GetFederationRelationship',
    'BatchCreateFederationRelationship', 'BatchUpdateFederationRelationship', 'BatchDeleteFederationRelationship', 'RefreshBundle']),
  ...rows(`${server}.debug.v1.Debug`, local, ['GetInfo']),
  ...rows(`${server}.logger.v1.Logger`, local, ['GetLogger', 'SetLogLevel', 'ResetLogLevel']),
  ...rows(`${server}.localauthority.v1.LocalAuthority`, operator, ['GetJWTAuthorityState', 'PrepareJWTAuthority', 'ActivateJWTAuthority',
    'TaintJWTAuthority', 'RevokeJWTAuthority', 'GetX509AuthorityState', 'PrepareX509Authority', 'ActivateX509Authority',
    'TaintX509Authority', 'TaintX509UpstreamAuthority', 'RevokeX509Authority', 'RevokeX509UpstreamAuthority', 'GetWITAuthorityState',
    'PrepareWITAuthority', 'ActivateWITAuthority', 'TaintWITAuthority', 'RevokeWITAuthority']),
  ...rows('/assay.agent.v1.AgentSync', agent, ['Sync']),
  ...rows('/assay.server.v1.Cluster', operator, ['GetStatus', 'WatchConvergence', 'StandAside']),
  ...rows('/assay.server.v1.ServiceRegistry', operator, ['BatchCreateService', 'BatchUpdateService', 'BatchDeleteService', 'ListServices',
    'GetService']),
  ...rows('/assay.server.federation.v1.Federation', operator, ['GetStatus', 'Invite', 'FetchInvited', 'SignBundle',
    'RaiseBundleSequence']),
  ...rows('/assay.server.revocation.v1.Revocation', operator, ['Revoke', 'ListRevocations', 'LiftRevocation']),
  ...rows('/assay.server.policy.v1.Policy', operator, ['ApplyPolicies', 'GetPolicies', 'ListPolicyVersions', 'RollbackPolicies']),
  ...rows('/grpc.health.v1.Health', local, ['Check', 'List', 'Watch']),
  ...rows('/grpc.reflection.v1.ServerReflection', local, ['ServerReflectionInfo']),
  ...rows('/grpc.reflection.v1alpha.ServerReflection', local, ['ServerReflectionInfo'])
].map(row => [row.method, row.callers] as const))

function rows (service: string, callers: readonly CallerClass[], methods: readonly string[]) {
  return methods.map(method => ({ method: `${service}/${method}`, callers }))
}
