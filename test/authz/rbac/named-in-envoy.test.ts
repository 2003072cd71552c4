import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import { compileRbac } from '../../../src/authz/rbac/compile-rbac.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { noEnvoy, until } from '../../fakes/envoy.ts'
import { caExtensions, type Forged, forge, leafExtensions } from '../../x509/forge-certificate.ts'
import type { TestSvid } from '../../fakes/authority.ts'
import { policiesOf } from './policies-of.ts'
import { RbacLab } from './rbac-lab.ts'
import { bytesComeBack, openTls, RawHttp } from './tls-client.ts'

const skip = noEnvoy()
const db = parseSpiffeId('spiffe://own.test/db')
const far = { kind: 'FederationScope', trustDomain: 'far.test', accept: ['spiffe://far.test/*'] }

t.test('in a real Envoy', { skip, timeout: 120_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const echo = createServer(socket => { socket.on('error', () => undefined).pipe(socket) }).listen(0, '127.0.0.1')
  await once(echo, 'listening')
  scope.defer(() => { echo.close() })
  const set = policiesOf([
    { name: 'seen', action: 'audit', to: [{ methods: ['GET'] }] },
    { name: 'no', action: 'deny', from: [{ ids: ['spiffe://own.test/loud'] }], to: [{ paths: ['/bad'] }] },
    { name: 'yes', action: 'allow', from: [{ ids: ['spiffe://own.test/web', 'spiffe://own.test/loud', 'spiffe://far.test/*'] }] }
  ], { more: [far, { kind: 'Policy', name: 's', mode: 'shadow', rules: [
    { name: 'maybe-not', action: 'deny', to: [{ paths: ['/maybe'] }] },
    { name: 'noted', action: 'audit', to: [{ paths: ['/maybe'] }] }
  ] }] })
  const compiled = (mostInList: number) => ({
    http: compileRbac(set, db, { kind: 'http', mostInList }).filters, network: compileRbac(set, db, { kind: 'network', mostInList }).filters
  })
  const authority = forge({ subject: 'hostile', extensions: caExtensions('spiffe://far.test'), ...validNow() })
  const ports = { http: { a: 0, b: 0, c: 0 }, tcp: { a: 0, b: 0, c: 0 } }
  const byHeader = policiesOf([{ name: 'header', action: 'allow', to: [{ headers: [{ name: 'X-Test', values: ['one', 'one,two,*'] }] }] }])
  const headers = { http: compileRbac(byHeader, db, { kind: 'http' }).filters, network: [] }
  const hostile = { 'far.test': [authority.der] }
  const lab = scope.use(await RbacLab.start(ports, (echo.address() as AddressInfo).port, [compiled(50), compiled(0), headers], hostile))
  const http = async (listener: string, svid: TestSvid | undefined, target: string, lines: readonly string[]) => {
    using client = new RawHttp(await openTls(lab.port(listener), { svid, address: '127.0.0.1', serverName: undefined }))
    return await client.ask('GET', target, ['host: x', ...lines])
  }
  const forms = ['list', 'tree']

  for (const [i, form] of forms.entries()) {
    await t.test(`${form}: the rule that decided is named to whoever logs, also those that are not obeyed`, async t => {
      const svid = await lab.svid('spiffe://own.test/loud')
      t.match(await http('http/a', svid, '/bad', [`x-case: ${i}`]), { status: 403, body: 'rbac_access_denied_matched_policy[p/no]' })
      t.match(await http('http/a', await lab.svid('spiffe://own.test/other'), '/', [`x-case: ${i}`]), { status: 403, body: /\[none\]$/ })
      t.equal((await http('http/a', svid, '/maybe', [`x-case: ${i}`, 'x-log: 1'])).status, 307)
      // Up to its end: what is read of a pipe may be half a line.
      const line = () => new RegExp(`^LAB ${i} /maybe (\\{.*\\}) (\\{.*\\})\n`, 'm').exec(lab.envoy.log)
      await until('the access log', () => line() !== null)
      const [, rbac = '', hint = ''] = line() ?? []
      t.match(JSON.parse(rbac), {
        allow_enforced_effective_policy_id: 'p/yes', audit_enforced_effective_policy_id: 'p/seen',
        deny_shadow_effective_policy_id: 's/maybe-not', deny_shadow_engine_result: 'denied'
      })
      t.strictSame(JSON.parse(hint), { access_log_hint: true }, 'audit asks for the log')
    })

    await t.test(`${form}: one certificate with an ID of its own trust domain and one of ours is nobody`, async t => {
      const both = forge({ issuer: authority, subject: 'both', ...validNow(),
        extensions: leafExtensions('spiffe://far.test/other', 'spiffe://own.test/web') })
      const svid = await lab.svid('spiffe://own.test/web')
      const hostile: TestSvid = { ...svid, ...heldBy(both) }
      const caller = { svid: hostile, address: '127.0.0.1', serverName: undefined }
      t.match(await http('http/normal', hostile, '/', ['x-case: probe']), { status: 307 }, 'Envoy\'s SPIFFE validator lets it in')
      for (const listener of ['http/a', 'http/normal']) {
        t.match(await http(listener, hostile, '/', [`x-case: ${i}`]), { status: 403, body: /\[several-uri-sans\]$/ }, listener)
      }
      t.notOk(await bytesComeBack(lab.port('tcp/a'), caller, `case-${i}`))
      const one = forge({ issuer: authority, subject: 'one', ...validNow(), extensions: leafExtensions('spiffe://far.test/other') })
      const honest = { ...svid, ...heldBy(one) }
      t.equal((await http('http/normal', honest, '/', [`x-case: ${i}`])).status, 307, 'by itself its own is let in')
      t.ok(await bytesComeBack(lab.port('tcp/a'), { ...caller, svid: honest }, `case-${i}`))
      t.ok(await bytesComeBack(lab.port('tcp/a'), { ...caller, svid }, `case-${i}`), 'and so is ours')
    })

    await t.test(`${form}: nobody becomes somebody by a header`, async t => {
      const claim = 'x-forwarded-client-cert: By=spiffe://own.test/db;Hash=00;URI=spiffe://own.test/web'
      t.equal((await http('http/a', undefined, '/', [`x-case: ${i}`, claim])).status, 403)
      t.equal((await http('http/a', await lab.svid('spiffe://own.test/other'), '/', [`x-case: ${i}`, claim])).status, 403)
    })
  }

  await t.test('a header that comes several times is its values joined by commas, also where a list would hold each of them', async t => {
    const svid = await lab.svid('spiffe://own.test/web')
    const status = async (...values: string[]) =>
      (await http('http/a', svid, '/', ['x-case: 2', ...values.map(one => `x-test: ${one}`)])).status
    t.strictSame([await status('one'), await status('one', 'two'), await status('two', 'one')], [307, 403, 403])
    t.strictSame([await status('one', 'two', 'three'), await status('one,two,three')], [307, 307])
  })

  await t.test('a route that says nothing of rules lets nobody in', async t => {
    const svid = await lab.svid('spiffe://own.test/web')
    t.equal((await http('http/a', svid, '/', ['x-case: unsaid'])).status, 403)
  })
})

function heldBy ({ der, key }: Forged): Pick<TestSvid, 'chain' | 'privateKey'> {
  return { chain: [der], privateKey: new Uint8Array(key.export({ format: 'der', type: 'pkcs8' })) }
}

function validNow (): { notBefore: Date, notAfter: Date } {
  return { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000) }
}
