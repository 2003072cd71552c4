import { request } from 'node:https'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import t from 'tap'
import { AcmeCertificate } from '../../src/acme/acme-certificate.ts'
import { serveBundleEndpoint } from '../../src/federation/endpoint/serve-bundle-endpoint.ts'
import { runTasks } from '../../src/runtime/tasks.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { pebbleMissing, startPebble, type Pebble } from '../fakes/pebble.ts'

const skip = pebbleMissing()
const domainName = 'bundles.partner.test'
const day = 86_400_000

/** An endpoint that gets its certificate itself, as a server runs it. */
async function startEndpoint (pebble: Pick<Pebble, 'directoryUrl' | 'caPath'>, { port, folder }: { port: number, folder: string }) {
  const { bundle } = await createTestAuthority('partner.test')
  const { log, lines } = capturedLog()
  const clock = new ManualClock(new Date())
  const { directoryUrl, caPath } = pebble
  const email = 'operator@partner.test'
  const certificate = await AcmeCertificate.open({ directoryUrl, domainNames: [domainName], email, caPath, folder }, { clock, log })
  const stop = new AbortController()
  const listening = Promise.withResolvers<unknown>()
  const running = runTasks(stop.signal, [
    signal => serveBundleEndpoint({ host: '127.0.0.1', port }, {
      bundle: { value: bundle }, certificate, clock, log, onListening: listening.resolve
    }, signal),
    async signal => {
      await listening.promise
      await certificate.run(signal)
    }
  ])
  await listening.promise
  return {
    certificate, clock, lines,
    async [Symbol.asyncDispose] () {
      stop.abort(new Error('the test is over'))
      await running
    }
  }
}

/** Time passes while the CA works. */
async function passing (clock: ManualClock, what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  await eventually(what, async () => {
    await clock.advance(1_000)
    return await condition()
  }, 120_000)
}

function ask (port: number, ca: string): Promise<{ status: number | undefined, serial: string } | string> {
  return new Promise(resolve => {
    const options = { host: '127.0.0.1', port, servername: domainName, headers: { host: domainName }, ca, agent: false, path: '/' }
    request(options, response => {
      const { serialNumber } = (response.socket as import('node:tls').TLSSocket).getPeerCertificate()
      response.resume().on('end', () => resolve({ status: response.statusCode, serial: serialNumber }))
    }).on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message)).end()
  })
}

void t.test('FED-22 the endpoint has a CA certify it, keeps the certificate, and renews it in time', { skip }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'acme-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const port = await freePort()
  await using pebble = await startPebble(port)
  const root = await pebble.root()
  let first = ''
  {
    await using endpoint = await startEndpoint(pebble, { port, folder })
    await passing(endpoint.clock, 'a certificate to be ordered', () => endpoint.certificate.current() !== undefined)
    const answer = await ask(port, root)
    t.match(answer, { status: 200, serial: /.+/ }, 'who believes the CA believes the endpoint')
    first = (answer as { serial: string }).serial
    t.equal(endpoint.certificate.challenge(), undefined, 'the challenge is shown no more')
    const protocols = connect({ host: '127.0.0.1', port, ALPNProtocols: ['acme-tls/1'], rejectUnauthorized: false, servername: domainName })
    const ended = await new Promise(resolve => protocols.on('error', () => resolve('refused')).on('secureConnect', () => resolve('taken')))
    protocols.destroy()
    t.equal(ended, 'refused', 'nor is its protocol spoken')
  }
  const kept = join(folder, `${domainName}.pem`)
  t.equal(statSync(kept).mode & 0o777, 0o600)
  t.match(readFileSync(kept, 'utf8'), /PRIVATE KEY[^]*BEGIN CERTIFICATE/)
  await using again = await startEndpoint(pebble, { port, folder })
  t.match(await ask(port, root), { status: 200, serial: first }, 'a restart orders nothing')
  // Pebble certifies for five years. Hour by hour these were 35 000 looks at the clock.
  await again.clock.skip(4 * 365 * day)
  await passing(again.clock, 'another certificate', async () => {
    const answer = await ask(port, root)
    return typeof answer === 'object' && answer.serial !== first
  })
})

void t.test('a CA that cannot be reached, or looks elsewhere, is asked again later, and what is there goes on', { skip }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'acme-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [port, elsewhere] = [await freePort(), await freePort()]
  await using pebble = await startPebble(elsewhere)
  await using endpoint = await startEndpoint(pebble, { port, folder })
  const failures = () => endpoint.lines.filter(({ code }) => code === 'acme_failed')
  t.type(await ask(port, await pebble.root()), 'string', 'without a certificate nobody gets an answer')
  await passing(endpoint.clock, 'the order to fail', () => failures().length === 1)
  t.match(failures()[0], { reason: /bundles\.partner\.test/, againInMs: 60_000 })
  await passing(endpoint.clock, 'the order to fail again', () => failures().length === 2)
  t.match(failures()[1], { againInMs: 120_000 })
})
