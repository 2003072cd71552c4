import t from 'tap'
import { serverApiPolicy, type CallerClass } from '../../src/authz/server-api-policy.ts'
import { agentSyncService } from '../../src/wire/generated/agent-sync.ts'
import { clusterService, serviceRegistryService } from '../../src/wire/generated/cluster.ts'
import { federationService } from '../../src/wire/generated/federation.ts'
import { policyService } from '../../src/wire/generated/policy.ts'
import { revocationService } from '../../src/wire/generated/revocation.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { debugService } from '../../src/wire/generated/server-debug.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { loggerService } from '../../src/wire/generated/server-logger.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { healthService } from '../../src/wire/generated/health.ts'

const services = [agentService, bundleService, debugService, entryService, localAuthorityService, loggerService, svidService,
  agentSyncService, clusterService, federationService, policyService, revocationService, serviceRegistryService, trustDomainService,
  healthService]
const methods = services.flatMap(service => Object.values(service.methods).map(method => `/${service.name}/${method.name}`))

/**
 * spire-surface §1.3 to §1.9, row by row: U local, A admin, G agent, D downstream, * anyone. Reflection and what begins
 * with assay are our own additions.
 */
const expected: Readonly<Record<string, string>> = {
  '/spire.api.server.agent.v1.Agent/CountAgents': 'U A',
  '/spire.api.server.agent.v1.Agent/ListAgents': 'U A',
  '/spire.api.server.agent.v1.Agent/GetAgent': 'U A',
  '/spire.api.server.agent.v1.Agent/DeleteAgent': 'U A',
  '/spire.api.server.agent.v1.Agent/BanAgent': 'U A',
  '/spire.api.server.agent.v1.Agent/AttestAgent': '*',
  '/spire.api.server.agent.v1.Agent/RenewAgent': 'G',
  '/spire.api.server.agent.v1.Agent/CreateJoinToken': 'U A',
  '/spire.api.server.agent.v1.Agent/PostStatus': 'G',
  '/spire.api.server.bundle.v1.Bundle/CountBundles': 'U A',
  '/spire.api.server.bundle.v1.Bundle/GetBundle': '*',
  '/spire.api.server.bundle.v1.Bundle/AppendBundle': 'U A',
  '/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority': 'D',
  '/spire.api.server.bundle.v1.Bundle/PublishWITAuthority': 'D',
  '/spire.api.server.bundle.v1.Bundle/ListFederatedBundles': 'U A',
  '/spire.api.server.bundle.v1.Bundle/GetFederatedBundle': 'U A G',
  '/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle': 'U A',
  '/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle': 'U A',
  '/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle': 'U A',
  '/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle': 'U A',
  '/spire.api.server.entry.v1.Entry/CountEntries': 'U A',
  '/spire.api.server.entry.v1.Entry/ListEntries': 'U A',
  '/spire.api.server.entry.v1.Entry/GetEntry': 'U A',
  '/spire.api.server.entry.v1.Entry/BatchCreateEntry': 'U A',
  '/spire.api.server.entry.v1.Entry/BatchUpdateEntry': 'U A',
  '/spire.api.server.entry.v1.Entry/BatchDeleteEntry': 'U A',
  '/spire.api.server.entry.v1.Entry/GetAuthorizedEntries': 'G',
  '/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries': 'G',
  '/spire.api.server.svid.v1.SVID/MintX509SVID': 'U A',
  '/spire.api.server.svid.v1.SVID/MintJWTSVID': 'U A',
  '/spire.api.server.svid.v1.SVID/MintWITSVID': 'U A',
  '/spire.api.server.svid.v1.SVID/BatchNewX509SVID': 'G',
  '/spire.api.server.svid.v1.SVID/NewJWTSVID': 'G',
  '/spire.api.server.svid.v1.SVID/BatchNewWITSVID': 'G',
  '/spire.api.server.svid.v1.SVID/NewDownstreamX509CA': 'D',
  '/spire.api.server.logger.v1.Logger/GetLogger': 'U',
  '/spire.api.server.logger.v1.Logger/SetLogLevel': 'U',
  '/spire.api.server.logger.v1.Logger/ResetLogLevel': 'U',
  '/spire.api.server.debug.v1.Debug/GetInfo': 'U',
  '/spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority': 'U A',
  '/spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority': 'U A',
  '/spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships': 'U A',
  '/spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship': 'U A',
  '/spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship': 'U A',
  '/spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship': 'U A',
  '/spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship': 'U A',
  '/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle': 'U A',
  '/assay.agent.v1.AgentSync/Sync': 'G',
  '/assay.server.v1.Cluster/GetStatus': 'U A',
  '/assay.server.v1.Cluster/WatchConvergence': 'U A',
  '/assay.server.v1.Cluster/StandAside': 'U A',
  '/assay.server.v1.ServiceRegistry/BatchCreateService': 'U A',
  '/assay.server.v1.ServiceRegistry/BatchUpdateService': 'U A',
  '/assay.server.v1.ServiceRegistry/BatchDeleteService': 'U A',
  '/assay.server.v1.ServiceRegistry/ListServices': 'U A',
  '/assay.server.v1.ServiceRegistry/GetService': 'U A',
  '/assay.server.policy.v1.Policy/ApplyPolicies': 'U A',
  '/assay.server.policy.v1.Policy/GetPolicies': 'U A',
  '/assay.server.policy.v1.Policy/ListPolicyVersions': 'U A',
  '/assay.server.policy.v1.Policy/RollbackPolicies': 'U A',
  '/assay.server.federation.v1.Federation/GetStatus': 'U A',
  '/assay.server.federation.v1.Federation/Invite': 'U A',
  '/assay.server.federation.v1.Federation/FetchInvited': 'U A',
  '/assay.server.federation.v1.Federation/SignBundle': 'U A',
  '/assay.server.revocation.v1.Revocation/Revoke': 'U A',
  '/assay.server.revocation.v1.Revocation/ListRevocations': 'U A',
  '/assay.server.revocation.v1.Revocation/LiftRevocation': 'U A',
  '/grpc.health.v1.Health/Check': 'U',
  '/grpc.health.v1.Health/List': 'U',
  '/grpc.health.v1.Health/Watch': 'U',
  '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo': 'U',
  '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo': 'U'
}

const letters: Readonly<Record<CallerClass, string>> = { anyone: '*', local: 'U', admin: 'A', agent: 'G', downstream: 'D' }

t.test('every method of the API has its callers, and no row names a method that is not there', async t => {
  for (const method of methods) t.ok(serverApiPolicy.has(method), method)
  const known = new Set(methods)
  const strange = [...serverApiPolicy.keys()].filter(method => !known.has(method) && !method.startsWith('/grpc.reflection.'))
  t.same(strange, [])
})

t.test('callers are those of spire-surface §1.3 to §1.9', async t => {
  for (const [method, callers] of Object.entries(expected)) {
    t.equal(serverApiPolicy.get(method)?.map(caller => letters[caller]).join(' '), callers, method)
  }
  t.same([...serverApiPolicy.keys()].filter(method => expected[method] === undefined), [], 'no method is open that the table does not know')
})
