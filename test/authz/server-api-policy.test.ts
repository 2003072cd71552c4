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
import { callersOf } from '../server/contract/callers.ts'

const services = [agentService, bundleService, debugService, entryService, localAuthorityService, loggerService, svidService,
  agentSyncService, clusterService, federationService, policyService, revocationService, serviceRegistryService, trustDomainService,
  healthService]
const methods = services.flatMap(service => Object.values(service.methods).map(method => `/${service.name}/${method.name}`))

const letters: Readonly<Record<CallerClass, string>> = { anyone: '*', local: 'U', admin: 'A', agent: 'G', downstream: 'D' }

t.test('every method of the API has its callers, and no row names a method that is not there', async t => {
  for (const method of methods) t.ok(serverApiPolicy.has(method), method)
  const known = new Set(methods)
  const strange = [...serverApiPolicy.keys()].filter(method => !known.has(method) && !method.startsWith('/grpc.reflection.'))
  t.same(strange, [])
})

t.test('callers are those of spire-surface §1.3 to §1.9', async t => {
  for (const [method, callers] of Object.entries(callersOf)) {
    t.equal(serverApiPolicy.get(method)?.map(caller => letters[caller]).join(' '), callers, method)
  }
  const unknown = [...serverApiPolicy.keys()].filter(method => callersOf[method] === undefined)
  t.same(unknown, [], 'no method is open that the table does not know')
})
