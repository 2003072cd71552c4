import { generateKeyPairSync, sign } from 'node:crypto'
import t from 'tap'
import { readPolicySet } from '../../../src/authz/policy/read-policy-set.ts'
import type { VerificationKey } from '../../../src/authz/rego/bundle-signature.ts'
import { hashBundleFile } from '../../../src/authz/rego/canonical-hash.ts'
import { checkPushedBundles, openPushedBundles } from '../../../src/authz/rego/pushed-bundles.ts'
import { readTarGz } from '../../../src/authz/rego/tar-archive.ts'
import { systemClock as clock } from '../../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../../src/spiffe/trust-domain.ts'
import { changedFixture, fixtureBytes } from './fixture.ts'
import { makeTarGz } from './make-tar.ts'
import { askingText, bundleText, ordersBundle, ordersOf } from './pushed.ts'

const { signal } = new AbortController()
const trustDomain = parseTrustDomain('example.org')
const read = (...texts: string[]) => readPolicySet(texts.map((text, index) => ({ name: `${index}`, text })), { trustDomain, foreign: [] })
const check = (...texts: string[]) => checkPushedBundles(read(...texts), { keys: undefined, clock }, signal)

void t.test('a bundle of Rego is a document of the set', async t => {
  const set = read(bundleText(ordersBundle, { entrypoints: ['orders/allow'] }), askingText())
  t.match(set.bundles, [{ name: 'orders', entrypoints: ['orders/allow'], key: undefined }])
  t.not(read(bundleText(await ordersOf('orders-1', [])), askingText()).revision, set.revision, 'whose content makes the revision')
  const refused: Record<string, readonly [string, RegExp]> = {
    'neither bundle nor file': ['{"apiVersion": "assay/v1", "kind": "RegoBundle", "name": "x"}', /must have one of file and bundle/],
    'both': [bundleText(ordersBundle, { file: 'x' }), /must have one of file and bundle/],
    'a file that nobody put in': ['{"apiVersion": "assay/v1", "kind": "RegoBundle", "name": "x", "file": "x.tar.gz"}', /policy apply/],
    'no base64': [bundleText(ordersBundle, { bundle: 'ab c=' }), /must be base64/],
    'too much': [bundleText(ordersBundle, { bundle: 'A'.repeat(5_592_412) }), /an archive of 4194304 bytes/],
    'the name that rules have': [bundleText(ordersBundle, { name: 'assay' }), /must not be assay/],
    'an unknown key': [bundleText(ordersBundle, { revision: 'x' }), /unknown key/],
    'no path': [bundleText(ordersBundle, { entrypoints: ['data.orders.allow!'] }), /must be a path/]
  }
  for (const [name, [text, message]] of Object.entries(refused)) t.throws(() => read(text), { code: 'policy_malformed', message }, name)
  t.throws(() => read(bundleText(ordersBundle), bundleText(ordersBundle)), { message: /a bundle orders already/ })
  const many = Array.from({ length: 17 }, (_, index) => bundleText(ordersBundle, { name: `b${index}` }))
  t.throws(() => read(...many), { message: /more than 16 bundles/ })
})

void t.test('what no agent could use is refused before it is anybody\'s', async t => {
  await t.resolves(check(bundleText(ordersBundle), askingText()))
  await t.rejects(check(bundleText(ordersBundle), askingText('rego/orders/other')), {
    code: 'policy_unsupported', message: 'rule db/tiers asks rego/orders/other, and no RegoBundle answers orders/other'
  })
  await t.rejects(check(askingText()), { code: 'policy_unsupported' }, 'no bundle at all')
  await t.resolves(check(askingText('another-provider')), 'others than Rego are not ours to know')
  const source = makeTarGz([{ path: 'orders.rego', content: 'package orders' }])
  await t.rejects(check(bundleText(source)), { code: 'rego_bundle_invalid', message: /^RegoBundle orders: .*`opa build -t wasm -e/ })
  await t.rejects(check(bundleText(makeTarGz([{ path: 'data.json', content: '{}' }]))), { message: /no policy\.wasm/ })
  await t.rejects(check(bundleText(ordersBundle, { entrypoints: ['orders/more'] })), { message: /does not answer orders\/more/ })
  await t.rejects(check(bundleText(Buffer.from('no archive'))), { code: 'rego_bundle_invalid' })
  await t.rejects(check(bundleText(ordersBundle), bundleText(ordersBundle, { name: 'again' })), { message: /both own/ })
})

void t.test('an evaluation has an end, and a bundle without a revision has its digest', async t => {
  const document = { name: 'hostile', entrypoints: [], key: undefined }
  await using set = await openPushedBundles([
    { ...document, archive: fixtureBytes.toString('base64') }, { ...document, name: 'orders', archive: ordersBundle.toString('base64') }
  ], { keys: {}, clock }, signal)
  t.strictSame([...set.revisions], [['hostile', 'fixture-1'], ['orders', 'orders-1']])
  const at = { time: new Date(0) }
  await t.rejects(set.evaluate('hostile/loop', { never: [] }, at), { code: /rego_timeout|rego_evaluation_failed/ })
  t.same(await set.evaluate('orders/raw', {}, at), { result: true }, 'the next one is decided')
  const manifest = JSON.parse(String((await readTarGz(fixtureBytes)).get('.manifest'))) as object
  const unnamed = (await changedFixture({ '.manifest': JSON.stringify({ ...manifest, revision: '' }) })).toString('base64')
  await using other = await openPushedBundles([{ ...document, archive: unnamed }], { keys: {}, clock }, signal)
  t.match(other.revisions.get('hostile'), /^sha256:[0-9a-f]{64}$/)
})

void t.test('an agent with keys takes what one of them signed, by the key that the document names', async t => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = (pem = publicKey): VerificationKey => ({ algorithm: 'ES256', key: pem.export({ type: 'spki', format: 'pem' }) as string })
  const files = await readTarGz(ordersBundle)
  const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const covered = [...files].map(([name, bytes]) => ({ name, hash: hashBundleFile(name, bytes, 'SHA-256'), algorithm: 'SHA-256' }))
  const said = `${base64({ alg: 'ES256', kid: 'ci' })}.${base64({ files: covered })}`
  const token = `${said}.${sign('sha256', Buffer.from(said), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
  const signed = makeTarGz([...[...files].map(([path, content]) => ({ path, content })),
    { path: '.signatures.json', content: JSON.stringify({ signatures: [token] }) }])
  const open = async (bytes: Buffer, named: string | undefined, keys: Readonly<Record<string, VerificationKey>>) => {
    const bundle = { name: 'orders', archive: bytes.toString('base64'), entrypoints: [], key: named }
    await using set = await openPushedBundles([bundle], { keys, clock }, signal)
    return set.revisions.get('orders')
  }
  const untrusted = { code: 'rego_bundle_untrusted', message: /^RegoBundle orders: / }
  t.equal(await open(signed, undefined, { ci: key() }), 'orders-1')
  t.equal(await open(signed, 'ci', { ci: key(), other: key(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey) }), 'orders-1')
  t.equal(await open(ordersBundle, undefined, {}), 'orders-1', 'without keys none need be signed')
  await t.rejects(open(ordersBundle, undefined, { ci: key() }), untrusted, 'not signed')
  await t.rejects(open(signed, 'other', { ci: key(), other: key(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey) }), untrusted,
    'by another key than the named one')
  await t.rejects(open(signed, 'ci', {}), untrusted, 'by a key that this agent does not have')
})
