import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import t from 'tap'
import { parseAllowedDomain } from '../../src/oidc/allowed-hosts.ts'
import { runProvider, type ProviderConfig, type ProviderReady } from '../../src/oidc/provider.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { pebbleMissing, startPebble, type Pebble } from '../fakes/pebble.ts'
import { ask } from './ask.ts'
import { FakeSource, makeKey } from './fake-source.ts'

const skip = pebbleMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)

const domains = ['oidc.example.org', 'tokens.example.org']

async function serve (pebble: Pick<Pebble, 'directoryUrl' | 'caPath'>, { port, folder }: { port: number, folder: string }) {
  const clock = new ManualClock(new Date())
  const source = new FakeSource()
  source.say([makeKey('one')])
  const { log, lines } = capturedLog()
  const stop = new AbortController()
  const ready = Promise.withResolvers<ProviderReady>()
  const config: ProviderConfig = {
    domains: domains.map(parseAllowedDomain), jwtIssuer: undefined, jwksUri: undefined, pathPrefix: '', allowInsecureScheme: false,
    cacheMaxSeconds: 300, setKeyUse: false, staleMaxMs: 10 * 365 * 86_400_000, pollMs: 10_000, logRequests: true,
    limits: { maxConnections: 100, maxConnectionsPerAddress: 50, requestsPerSecond: 1_000 },
    listen: {
      kind: 'tls', host: '127.0.0.1', port,
      certificate: { kind: 'acme', acme: { ...pebble, domainNames: domains, email: 'operator@example.org', folder } }
    }
  }
  const run = runProvider(config, { source, clock, log, onReady: ready.resolve }, stop.signal)
  const { probes } = await Promise.race([ready.promise, run.then(() => { throw new Error('it ended') })])
  /** Time passes while the CA works. */
  const passing = async (what: string, condition: () => boolean | Promise<boolean>) => await eventually(what, async () => {
    await clock.advance(1_000)
    return await condition()
  }, 120_000)
  const certified = async () => {
    try {
      await probes['oidc.certificate']?.()
      return ''
    } catch (error) {
      return (error as Error).message
    }
  }
  return { lines, passing, certified, [Symbol.asyncDispose]: async () => { stop.abort(); await run } }
}

/** @returns the names in the certificate that is shown for this one, and its serial number */
function shown (port: number, ca: string, servername: string): Promise<{ readonly names: string | undefined, readonly serial: string }> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, servername, ca, ALPNProtocols: ['http/1.1'] }, () => {
      const { subjectAltName, serialNumber } = socket.getPeerX509Certificate() ?? { subjectAltName: undefined, serialNumber: '' }
      socket.end()
      resolve({ names: subjectAltName, serial: serialNumber })
    }).on('error', reject)
  })
}

void t.test('a provider has a CA certify all its domains, and keeps the certificate', { skip }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'assay-oidc-acme-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const port = await freePort()
  await using pebble = await startPebble(port)
  const ca = await pebble.root()
  let serial = ''
  {
    await using provider = await serve(pebble, { port, folder })
    await t.rejects(ask('/keys', { port, ca }), 'until there is a certificate nobody gets an answer')
    t.match(await provider.certified(), /no serving certificate yet/)
    await provider.passing('a certificate', async () => await provider.certified() === '')
    t.match(await ask('/keys', { port, ca }), { status: 200, text: /"one"/ })
    t.match(await ask('/keys', { port, ca, host: 'evil.test' }), { status: 400 })
    for (const name of domains) {
      const certificate = await shown(port, ca, name)
      serial = certificate.serial
      for (const each of domains) t.match(certificate.names, `DNS:${each}`, `${name} is shown one for ${each}`)
    }
    t.match(provider.lines.filter(({ msg }) => msg === 'certificate ordered by ACME'), [{ domainNames: domains }])
  }
  t.same(readdirSync(folder).toSorted(), ['account.pem', 'oidc.example.org.pem'])
  await using again = await serve(pebble, { port, folder })
  t.equal(await again.certified(), '')
  t.equal((await shown(port, ca, 'oidc.example.org')).serial, serial, 'a restart orders nothing')
})
