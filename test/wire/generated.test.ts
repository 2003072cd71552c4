import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { generateWire } from '../../scripts/wire/generate.ts'
import { secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { debugService } from '../../src/wire/generated/server-debug.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { loggerService } from '../../src/wire/generated/server-logger.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'

const folder = join(import.meta.dirname, '..', '..', 'src', 'wire', 'generated')

void t.test('what is committed is what the protos say', async t => {
  const generated = generateWire()
  t.same(readdirSync(folder).toSorted(), [...generated.keys()].toSorted(), 'no file too many, none missing')
  for (const [name, text] of generated) t.ok(readFileSync(join(folder, name), 'utf8') === text, name)
})

void t.test('the services', async t => {
  const server = [agentService, bundleService, debugService, entryService, localAuthorityService, loggerService, svidService, trustDomainService]
  t.equal(server.flatMap(service => Object.keys(service.methods)).length, 62, 'the server has the 62 methods of the SPIRE API SDK')
  t.equal(workloadService.name, 'SpiffeWorkloadAPI', 'WLAPI-04 the Workload API has no package')
  t.same(Object.entries(workloadService.methods).map(([name, { kind }]) => [name, kind]), [
    ['fetchX509SVID', 'serverStream'], ['fetchX509Bundles', 'serverStream'], ['fetchJWTSVID', 'unary'], ['fetchJWTBundles', 'serverStream'],
    ['validateJWTSVID', 'unary'], ['fetchWITSVID', 'serverStream'], ['fetchWITBundles', 'serverStream']
  ], 'WLAPI-03 no method beyond the standard')
  t.same(Object.entries(secretDiscoveryService.methods).map(([name, { kind }]) => [name, kind]),
    [['deltaSecrets', 'bidi'], ['streamSecrets', 'bidi'], ['fetchSecrets', 'unary']])
})

void t.test('the Workload API messages (appendix A)', async t => {
  const { fetchX509SVID, fetchJWTSVID } = workloadService.methods
  const shape = (type: { fields: ReadonlyArray<{ number: number, name: string }> }) => type.fields.map(({ number, name }) => [number, name])
  t.same(shape(fetchX509SVID.response), [[1, 'svids'], [2, 'crl'], [3, 'federatedBundles']], 'WLAPI-03 X509SVIDResponse')
  t.same(shape(fetchJWTSVID.request), [[1, 'audience'], [2, 'spiffeId']], 'WLAPI-03 JWTSVIDRequest')
})
