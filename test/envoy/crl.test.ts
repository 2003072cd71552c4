import { randomBytes } from 'node:crypto'
import { connect } from 'node:tls'
import t from 'tap'
import { encodePem } from '../../src/x509/pem.ts'
import { Envoy, noEnvoy, localAddress } from '../fakes/envoy.ts'
import { forgeCrl } from '../fakes/forge-crl.ts'
import { authorityKeyId, caExtensions, forge, keyIdOf, leafExtensions, subjectKeyId, type Forged } from '../x509/forge-certificate.ts'
import { makeTestKey } from '../fakes/authority.ts'
import { oid } from '../../src/x509/oid.ts'

const skip = noEnvoy()
const tls = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3'
const hour = 3_600_000
const fromNow = (ms: number) => new Date(Math.floor((Date.now() + ms) / 1000) * 1000)
const life = { notBefore: fromNow(-hour), notAfter: fromNow(hour) }
const current = { thisUpdate: fromNow(-hour / 2), nextUpdate: fromNow(hour) }
const pem = (...chain: readonly Forged[]) => chain.map(({ der }) => encodePem('CERTIFICATE', der)).join('')

function authority (subject: string, issuer?: Forged): Forged {
  const key = makeTestKey()
  const above = issuer === undefined ? {} : { issuer }
  const extensions = {
    ...caExtensions('spiffe://example.org'),
    [oid.subjectKeyIdentifier]: subjectKeyId(keyIdOf(key)),
    ...issuer === undefined ? {} : { [oid.authorityKeyIdentifier]: authorityKeyId(keyIdOf(issuer.key)) }
  }
  return forge({ ...above, ...life, key, subject, extensions, serial: serial() })
}

interface Peer { readonly chain: readonly Forged[], readonly serial: Uint8Array }

/** A workload below the last of these authorities. */
function peer (path: string, ...authorities: readonly [Forged, ...Forged[]]): Peer {
  const issuer = authorities.at(-1) as Forged
  const number = serial()
  const extensions = {
    ...leafExtensions(`spiffe://example.org${path}`), [oid.authorityKeyIdentifier]: authorityKeyId(keyIdOf(issuer.key))
  }
  const leaf = forge({ issuer, ...life, subject: path, extensions, serial: number })
  return { chain: [leaf, ...authorities.slice(1).toReversed()], serial: number }
}

/** Positive. */
function serial (): Uint8Array { return Buffer.concat([Buffer.of(0x11), randomBytes(15)]) }

/** What an Envoy answers a peer: 200, or nothing when it refuses the certificate. */
async function answer (port: number, { chain }: Peer): Promise<'accepted' | 'refused'> {
  const [leaf] = chain
  const socket = connect({
    host: '127.0.0.1', port, cert: pem(...chain), key: leaf?.key.export({ type: 'pkcs8', format: 'pem' }), rejectUnauthorized: false
  })
  let answered = ''
  socket.setEncoding('utf8').on('data', text => { answered += text })
  socket.on('secureConnect', () => socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'))
  await new Promise(resolve => { socket.on('error', () => {}).on('close', resolve) })
  return answered.startsWith('HTTP/1.1 200') ? 'accepted' : 'refused'
}

const [first, second] = [authority('first'), authority('second')]
const intermediate = authority('intermediate', first)
const good = peer('/good', first)
const bad = peer('/bad', first)
const other = peer('/other', second)
const nested = peer('/nested', first, intermediate)
const nestedBad = peer('/nested-bad', first, intermediate)
const server = peer('/server', first)

const crl = {
  first: forgeCrl(first, { ...current, revoked: [bad.serial] }),
  firstExpired: forgeCrl(first, { thisUpdate: fromNow(-hour), nextUpdate: fromNow(-60_000), revoked: [bad.serial] }),
  second: forgeCrl(second, current),
  intermediate: forgeCrl(intermediate, { ...current, revoked: [nestedBad.serial] })
}
const plain = (...roots: readonly Forged[]) => ({ trusted_ca: { inline_string: pem(...roots) } })
const spiffe = {
  custom_validator_config: {
    name: 'envoy.tls.cert_validator.spiffe',
    typed_config: {
      '@type': `${tls}.SPIFFECertValidatorConfig`,
      trust_domains: [{ name: 'example.org', trust_bundle: { inline_string: pem(first) } }]
    }
  }
}
const withCrl = (...lists: readonly string[]) => lists.length === 0 ? {} : { crl: { inline_string: lists.join('') } }

/** What each listener trusts. */
const contexts: Readonly<Record<string, object>> = {
  'plain': plain(first, second),
  'crl-of-each': { ...plain(first, second), ...withCrl(crl.first, crl.second) },
  'crl-of-one': { ...plain(first, second), ...withCrl(crl.first) },
  'crl-expired': { ...plain(first), ...withCrl(crl.firstExpired) },
  'crl-of-root': { ...plain(first), ...withCrl(crl.first) },
  'crl-of-root-and-intermediate': { ...plain(first), ...withCrl(crl.first, crl.intermediate) },
  'spiffe': { ...spiffe },
  'spiffe-crl': { ...spiffe, ...withCrl(crl.first) },
  'spiffe-crl-expired': { ...spiffe, ...withCrl(crl.firstExpired) }
}

function config (): object {
  const certificate = {
    certificate_chain: { inline_string: pem(...server.chain) },
    private_key: { inline_string: server.chain[0]?.key.export({ type: 'pkcs8', format: 'pem' }) }
  }
  const filter = {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
      stat_prefix: 'in',
      route_config: {
        virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }] }]
      },
      http_filters: [{
        name: 'envoy.filters.http.router',
        typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' }
      }]
    }
  }
  const listeners = Object.entries(contexts).map(([name, context]) => ({
    name,
    address: localAddress(0),
    filter_chains: [{
      filters: [filter],
      transport_socket: {
        name: 'envoy.transport_sockets.tls',
        typed_config: {
          '@type': `${tls}.DownstreamTlsContext`,
          require_client_certificate: true,
          common_tls_context: { tls_certificates: [certificate], validation_context: context }
        }
      }
    }]
  }))
  return { node: { id: 'n', cluster: 'c' }, static_resources: { listeners } }
}

void t.test('what a CRL does in a stock Envoy', { skip, timeout: 60_000 }, async t => {
  await using envoy = await Envoy.start(config())
  await envoy.ready()
  const ask = async (listener: string, peers: Readonly<Record<string, Peer>>) => {
    const port = await envoy.listenerPort(listener)
    if (port === undefined) throw new Error(`Envoy has no listener ${listener}:\n${envoy.log}`)
    const answers = await Promise.all(Object.entries(peers).map(async ([name, peer]) => [name, await answer(port, peer)]))
    return Object.fromEntries(answers) as Record<string, string>
  }
  t.strictSame(await ask('plain', { good, bad, other, nested }),
    { good: 'accepted', bad: 'accepted', other: 'accepted', nested: 'accepted' }, 'without one, everybody is let in')
  t.strictSame(await ask('crl-of-each', { good, bad, other }), { good: 'accepted', bad: 'refused', other: 'accepted' },
    'with a current CRL of every authority, exactly the revoked one is refused')
  t.strictSame(await ask('crl-of-one', { good, bad, other }), { good: 'accepted', bad: 'refused', other: 'refused' },
    'an authority without a CRL takes all its peers along')
  t.strictSame(await ask('crl-expired', { good, bad }), { good: 'refused', bad: 'refused' }, 'an expired CRL refuses good peers')
  t.strictSame(await ask('crl-of-root', { good, nested }), { good: 'accepted', nested: 'refused' },
    'below an intermediate, its CRL is needed as well')
  t.strictSame(await ask('crl-of-root-and-intermediate', { good, nested, nestedBad }),
    { good: 'accepted', nested: 'accepted', nestedBad: 'refused' })
  for (const listener of ['spiffe', 'spiffe-crl', 'spiffe-crl-expired']) {
    t.strictSame(await ask(listener, { good, bad, other }), { good: 'accepted', bad: 'accepted', other: 'refused' },
      `${listener}: beside the SPIFFE validator a CRL says nothing, current or expired`)
  }
})
