import t from 'tap'
import type { MeshService } from '../../src/mesh/mesh-state.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { createTestAuthority, type TestAuthority } from '../fakes/authority.ts'
import { until } from '../fakes/envoy.ts'
import { crossSign, forge, type Identity } from '../fakes/forge.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const id = (text: string) => parseSpiffeId(`spiffe://${text}`)
const addressOf = { a: '10.77.0.2', b: '10.77.0.3' } as const
const node = '10.77.0.1'

/**
 * Own domain, two partners and a stranger, whose CAs all have the name of the own one, to the byte. The first partner is hostile: it signs
 * whatever may be of use to somebody, other CAs' keys included.
 */
async function openDomains (rig: MeshRig) {
  const own = parseCertificate(rig.domain.root)
  const open = (name: string) => createTestAuthority(name, { subject: own.subjectDer })
  const [partner, second, retired, stranger] = await Promise.all([
    open('partner.test'), open('second.test'), open('second.test'), open('stranger.test')
  ])
  const crossed = async (authority: TestAuthority, path: string): Promise<Identity> => {
    const { chain, privateKey } = await authority.issue(path)
    return { chain: [...chain, await crossSign(authority, partner)], privateKey }
  }
  return {
    partner, second,
    /** Whoever believes one of these has mixed up bundles. */
    attacks: async (path: string): Promise<Record<string, Identity>> => {
      const ofSecond = await forge(`spiffe://second.test${path}`, partner, second.certificate)
      return {
        ...await forge(`spiffe://lab.test${path}`, partner, own),
        'a stranger': await stranger.issue(path),
        'a stranger, cross-signed': await crossed(stranger, path),
        'a root that the second partner has withdrawn': await retired.issue(path),
        'a withdrawn root, cross-signed': await crossed(retired, path),
        'the second partner\'s ID by the first one': ofSecond['naming the victim\'s key']!
      }
    }
  }
}

void t.test('callers: a bundle vouches for IDs of its own domain and no other', { skip, timeout: 290_000 }, async t => {
  await using rig = await MeshRig.open()
  const { partner, second, attacks } = await openDomains(rig)
  await rig.pod('b', addressOf.b)
  await rig.startEnvoy()
  await rig.identify('b', '/b', { federated: [partner.bundle, second.bundle] })
  await rig.serving('b')
  const callers = ['lab.test', 'partner.test', 'second.test', 'stranger.test'].map(domain => `spiffe://${domain}/*`)
  const ports = [{ port: 80, targetPort: 8080, protocol: 'http' as const }, { port: 90, targetPort: 9000, protocol: 'tcp' as const }]
  rig.directory.set({ services: [{ name: 'web', address: '10.99.0.1', spiffeIds: [id('lab.test/b')], ports, callers }], endpoints: [] })
  await rig.settled()
  await rig.drained()
  const calling = (identity: Identity) => rig.callDirectly(identity, addressOf.b, 8080)
  const rightful = { own: await rig.domain.issue('/a'), partner: await partner.issue('/a'), second: await second.issue('/a') }
  for (const [who, identity] of Object.entries(rightful)) t.match(await calling(identity), { status: 200 }, `${who} is let in`)
  const refused = async () => (await rig.admin('/stats?filter=ssl.fail_verify_error$')).split('\n')
    .reduce((sum, line) => sum + Number(line.split(': ')[1] ?? 0), 0)
  for (const [how, identity] of Object.entries(await attacks('/a'))) {
    const before = await refused()
    t.match(await calling(identity), { status: undefined, error: /.+/ }, `X509-21 TDB-04 FED-09 refused: ${how}`)
    t.ok(await refused() > before, 'in the handshake')
  }
  const tunnelled = (await attacks('/a'))['by one that it cross-signed under the victim\'s name']!
  t.match(await rig.tunnel(tunnelled, addressOf.b, `${addressOf.b}:9000`), { error: /.+/ }, 'nor in a tunnel')
  t.match(await calling(rightful.second), { status: 200 }, 'the rightful go on')
})

void t.test('those who are called: neither', { skip, timeout: 240_000 }, async t => {
  await using rig = await MeshRig.open()
  const { partner, second, attacks } = await openDomains(rig)
  const a = await rig.pod('a', addressOf.a)
  await rig.startEnvoy()
  await rig.identify('a', '/a', { federated: [partner.bundle, second.bundle] })
  await rig.serving('a')
  const servers = {
    own: { identity: await rig.domain.issue('/web'), ids: [id('lab.test/web')] },
    partner: { identity: await partner.issue('/web'), ids: [id('partner.test/web')] },
    second: { identity: await second.issue('/web'), ids: [id('second.test/web')] },
    ...Object.fromEntries(Object.entries(await attacks('/web')).map(([how, identity], index) => [`bad-${index}`, {
      how, identity, ids: ['lab.test', 'second.test', 'stranger.test'].map(domain => id(`${domain}/web`))
    }]))
  } as Readonly<Record<string, { readonly how?: string, readonly identity: Identity, readonly ids: MeshService['spiffeIds'] }>>
  const ports = Object.keys(servers).map((name, index) => [name, 9_400 + index] as const)
  // It asks for a certificate of the own domain, which the caller has.
  await Promise.all(ports.map(([name, port]) => rig.serveDirectly(servers[name]!.identity, port)))
  rig.directory.set({
    services: ports.map(([name, port], index) => ({
      name, address: `10.99.1.${index + 1}`, spiffeIds: servers[name]!.ids,
      ports: [{ port: 80, targetPort: port, protocol: 'http' as const }]
    })),
    endpoints: ports.map(([name, port]) => ({ id: servers[name]!.ids[0]!, address: node, port, transport: 'mtls' as const, service: name }))
  })
  await rig.settled()
  for (const [index, [name]] of ports.entries()) {
    const call = () => a.http(`10.99.1.${index + 1}`, 80)
    const { how } = servers[name]!
    if (how === undefined) {
      await until(`${name} to be reached`, async () => (await call()).status === 200, 60_000)
      t.pass(`${name} is believed`)
      continue
    }
    let answered = false
    const refusals = () => rig.stat(`cluster.service/${name}/80.ssl.fail_verify_error`)
    await until(`Envoy to refuse ${name}`, async () => {
      answered ||= (await call()).status === 200
      return answered || await refusals() > 0
    }, 60_000)
    t.notOk(answered, `X509-21 TDB-04 FED-09 refused: ${how}`)
  }
})
