import t from 'tap'
import { serverApiPolicy, type CallerClass } from '../../src/authz/server-api-policy.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { debugService } from '../../src/wire/generated/server-debug.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { loggerService } from '../../src/wire/generated/server-logger.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { healthService } from '../../src/wire/generated/health.ts'

const services = [agentService, bundleService, debugService, entryService, loggerService, svidService, healthService]
const methods = services.flatMap(service => Object.values(service.methods).map(method => `/${service.name}/${method.name}`))

t.test('every method of the API has its callers, and no row names a method that is not there', async t => {
  for (const method of methods) t.ok(serverApiPolicy.has(method), method)
  const known = new Set(methods)
  const strange = [...serverApiPolicy.keys()].filter(method => !known.has(method) && !method.startsWith('/grpc.reflection.'))
  t.same(strange, [])
})

t.test('callers are those of spire-surface §1.3 to §1.9', async t => {
  const count = (caller: CallerClass) => [...serverApiPolicy.values()].filter(callers => callers.includes(caller)).length
  t.equal(count('anyone'), 2, 'AttestAgent and GetBundle')
  t.same(serverApiPolicy.get('/spire.api.server.bundle.v1.Bundle/GetFederatedBundle'), ['local', 'admin', 'agent'])
  t.same(serverApiPolicy.get('/spire.api.server.svid.v1.SVID/NewDownstreamX509CA'), ['downstream'])
  t.equal(count('agent'), 8)
  t.equal(count('downstream'), 3)
  for (const [method, callers] of serverApiPolicy) {
    t.equal(callers.includes('admin') && !callers.includes('local'), false, `${method}: whoever an admin may be, the local operator is`)
  }
})
