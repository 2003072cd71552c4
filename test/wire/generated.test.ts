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
import { MessageType, type AnyMessageType, type Field } from '../../src/wire/message-type.ts'

const folder = join(import.meta.dirname, '..', '..', 'src', 'wire', 'generated')

void t.test('what is committed is what the protos say', async t => {
  const generated = generateWire()
  t.same(readdirSync(folder).toSorted(), [...generated.keys()].toSorted(), 'no file too many, none missing')
  for (const [name, text] of generated) t.ok(readFileSync(join(folder, name), 'utf8') === text, name)
})

void t.test('the services', async t => {
  const server = [agentService, bundleService, debugService, entryService, localAuthorityService, loggerService, svidService,
    trustDomainService]
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
  const expected: Record<string, string> = {
    X509SVIDRequest: '',
    X509SVIDResponse: '1 svids repeated X509SVID, 2 crl repeated bytes, 3 federatedBundles map bytes',
    X509SVID: '1 spiffeId string, 2 x509Svid bytes, 3 x509SvidKey bytes, 4 bundle bytes, 5 hint string',
    X509BundlesRequest: '',
    X509BundlesResponse: '1 crl repeated bytes, 2 bundles map bytes',
    JWTSVIDRequest: '1 audience repeated string, 2 spiffeId string',
    JWTSVIDResponse: '1 svids repeated JWTSVID',
    JWTSVID: '1 spiffeId string, 2 svid string, 3 hint string',
    JWTBundlesRequest: '',
    JWTBundlesResponse: '1 bundles map bytes',
    ValidateJWTSVIDRequest: '1 audience string, 2 svid string',
    ValidateJWTSVIDResponse: '1 spiffeId string, 2 claims google.protobuf.Struct',
    WITSVIDRequest: '1 spiffeId string',
    WITSVIDResponse: '1 svids repeated WITSVID',
    WITSVID: '1 spiffeId string, 2 witSvid string, 3 witSvidKey string, 4 hint string',
    WITBundlesRequest: '',
    WITBundlesResponse: '1 bundles map string'
  }
  const reached = new Map<string, string>()
  const visit = (type: AnyMessageType) => {
    if (reached.has(type.name) || type.name.startsWith('google.')) return
    reached.set(type.name, type.fields.map(describe).join(', '))
    for (const { type: inner } of type.fields) if (inner instanceof MessageType) visit(inner)
  }
  for (const { request, response } of Object.values(workloadService.methods)) {
    visit(request)
    visit(response)
  }
  t.same(Object.fromEntries(reached), expected, 'WLAPI-03 no message or field beyond the standard, and each with its number and type')
})

function describe ({ number, name, presence, type }: Field): string {
  const label = presence === 'repeated' || presence === 'map' ? [presence] : []
  return [number, name, ...label, typeof type === 'string' ? type : type.name].join(' ')
}
