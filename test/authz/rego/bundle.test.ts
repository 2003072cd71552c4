import { generateKeyPairSync, sign } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { verifyBundle, type SignatureVerification } from '../../../src/authz/rego/bundle-signature.ts'
import { hashBundleFile } from '../../../src/authz/rego/canonical-hash.ts'
import { readBundle, type RegoBundle } from '../../../src/authz/rego/rego-bundle.ts'
import { RegoSet } from '../../../src/authz/rego/rego-set.ts'
import { readTarGz } from '../../../src/authz/rego/tar-archive.ts'
import { systemClock } from '../../../src/runtime/clock.ts'
import { changedFixture, fixtureBytes } from './fixture.ts'
import { makeTarGz } from './make-tar.ts'

t.test('archives that are refused', async t => {
  const small = { maxCompressed: 10_000, maxSize: 100_000, maxFiles: 3 }
  const refused: Record<string, readonly [Buffer, RegExp]> = {
    'no gzip': [Buffer.from('x'), /no gzip/],
    'no tar': [gzipSync(Buffer.alloc(1024, 'x')), /not octal|checksum/],
    'a bomb': [gzipSync(Buffer.alloc(1_000_000)), /expands to more/],
    'too large': [Buffer.alloc(10_001), /larger/],
    'too many files': [makeTarGz(['a', 'b', 'c', 'd'].map(path => ({ path }))), /more than 3 files/],
    'a path out of it': [makeTarGz([{ path: 'a/../../b' }]), /leaves/],
    'a path above it': [makeTarGz([{ path: '/../b' }]), /leaves/],
    'a backslash': [makeTarGz([{ path: 'a\\b' }]), /cannot be used/],
    'a file twice': [makeTarGz([{ path: 'a' }, { path: '/a' }]), /twice/],
    'the same by a dot': [makeTarGz([{ path: './a' }, { path: 'a' }]), /twice/],
    'a symbolic link': [makeTarGz([{ path: 'a', type: '2' }]), /no plain file/],
    'a hard link': [makeTarGz([{ path: 'a', type: '1' }]), /no plain file/],
    'a device': [makeTarGz([{ path: 'a', type: '3' }]), /no plain file/],
    'a file cut short': [makeTarGz([{ path: 'a', content: 'abc', size: 5000 }]), /cut short/],
    'no end': [makeTarGz([{ path: 'a' }], Buffer.alloc(0)), /before its last block/],
    'bytes behind its end': [makeTarGz([{ path: 'a' }], Buffer.concat([Buffer.alloc(1024), Buffer.from('x')])), /behind its end/],
    'a bad checksum': [gzipSync(Buffer.concat([Buffer.alloc(148, 'a'), Buffer.from('0000001\0'), Buffer.alloc(356), Buffer.alloc(1024)])),
      /checksum|octal/]
  }
  for (const [what, [bytes, message]] of Object.entries(refused)) {
    await t.rejects(readTarGz(bytes, small), { code: 'rego_bundle_invalid', message }, what)
  }
  const files = await readTarGz(makeTarGz([{ path: 'd/', type: '5' }, { path: './d/a', content: 'x' }]))
  t.same([...files].map(([path, content]) => [path, String(content)]), [['d/a', 'x']], 'folders say nothing')
  const long = `${'x'.repeat(150)}/y`
  const record = `path=${long}\n`
  const extended = `${record.length + 4} ${record}`
  t.same([...(await readTarGz(makeTarGz([{ path: 'pax', type: 'x', content: extended }, { path: 'short' }]))).keys()], [long],
    'a long name')
})

t.test('bundles whose content is refused', async t => {
  const bundle = (files: Readonly<Record<string, string>>) => makeTarGz(Object.entries(files).map(([path, content]) => ({ path, content })))
  const refused: Record<string, readonly [Buffer, RegExp]> = {
    'roots that overlap': [bundle({ '.manifest': '{"roots": ["a/b", "a"]}' }), /overlap/],
    'data outside of its roots': [bundle({ '.manifest': '{"roots": ["a/b"]}', 'a/c/data.json': '1' }), /do not have data\.a\.c inside/],
    'data beside its root': [bundle({ '.manifest': '{"roots": ["a/b"]}', 'a/data.json': '{"bb": 1}' }), /do not have data\.a\.bb inside/],
    'two documents about one place': [bundle({ 'a/data.json': '1', 'data.yaml': 'a: 2' }), /another document/],
    'a name twice': [bundle({ 'data.json': '{"a": 1, "a": 2}' }), /repeated name/],
    'data that are no object': [bundle({ 'data.json': '[1]' }), /no object/],
    'a manifest that is none': [bundle({ '.manifest': '{"roots": "a"}' }), /\.manifest: roots/],
    'a module that is not there': [bundle({ '.manifest': '{"wasm": [{"entrypoint": "a", "module": "/policy.wasm"}]}' }), /not in it/],
    'an entrypoint outside of its roots': [await changedFixture({
      '.manifest': '{"roots": ["hostile_data"], "wasm": [{"entrypoint": "hostile/allow", "module": "/policy.wasm"}]}'
    }), /do not have entrypoint/],
    'an entrypoint twice': [bundle({ '.manifest': '{"wasm": [{"entrypoint": "a", "module": "x"}, {"entrypoint": "a", "module": "y"}]}' }),
      /two modules/],
    'Rego that nobody compiled': [bundle({ 'a.rego': 'package a' }), /opa build -t wasm/],
    'a delta': [bundle({ 'patch.json': '{"data": []}' }), /delta/]
  }
  for (const [what, [bytes, message]] of Object.entries(refused)) {
    await t.rejects(readBundle(bytes, undefined), { code: 'rego_bundle_invalid', message }, what)
  }
  const read = await readBundle(bundle({ '.manifest': '{"metadata": {"by": "me"}}', 'a/data.json': '{"b": 1}', 'a/c/data.yml': 'd: 2' }),
    undefined)
  t.same([read.revision, read.metadata, JSON.stringify(read.data)], ['', { by: 'me' }, '{"a":{"b":1,"c":{"d":2}}}'])
})

t.test('bundles side by side', async t => {
  const data = async (roots: string, text: string): Promise<RegoBundle> => await readBundle(makeTarGz([
    { path: '.manifest', content: `{"roots": ${roots}, "revision": "2"}` }, { path: 'data.json', content: text }
  ]), undefined)
  const fixture = await readBundle(await changedFixture({ 'data.json': '{}' }), undefined)
  const limits = { threads: 1, timeoutMs: 60_000, memoryMb: 16, maxWaiting: 10 }
  const open = async (other: RegoBundle) =>
    await RegoSet.open(new Map([['policy', { ...fixture, roots: ['hostile'] }], ['data', other]]), limits, systemClock,
      new AbortController().signal)
  await using set = await open(await data('["hostile_data"]', '{"hostile_data": {"users": ["eve"]}}'))
  t.same(await set.evaluate('hostile/allow', { user: 'eve' }, { time: new Date() }), { result: true },
    'a policy sees the other bundle\'s data')
  t.same([...set.revisions.values()], ['fixture-1', '2'])
  for (const roots of ['[""]', '["hostile/allow"]', '["hostile"]']) {
    await t.rejects(open(await data(roots, '{}')), { code: 'rego_bundle_invalid', message: /both own/ }, roots)
  }
})

t.test('signatures', async t => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string
  const files = await readTarGz(fixtureBytes)
  const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const covered = [...files].map(([name, bytes]) => ({ name, hash: hashBundleFile(name, bytes, 'SHA-256'), algorithm: 'SHA-256' }))
  const token = (claims: object, header: object = { alg: 'ES256', kid: 'k' }) => {
    const signed = `${base64(header)}.${base64(claims)}`
    return `${signed}.${sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
  }
  const signedBy = (...signatures: readonly string[]) => new Map(files).set('.signatures.json', Buffer.from(JSON.stringify({ signatures })))
  const verification: SignatureVerification = { keys: { k: { algorithm: 'ES256', key: pem } } }
  t.doesNotThrow(() => verifyBundle(signedBy(token({ files: covered })), verification))
  t.doesNotThrow(() => verifyBundle(signedBy(token({ files: covered, keyid: 'k' }, { alg: 'ES256' })), verification),
    'keyid where the header has no kid')
  await t.rejects(readBundle(fixtureBytes, verification), { code: 'rego_bundle_untrusted', message: /not signed/ })
  const good = token({ files: covered })
  const refused: Record<string, readonly [ReadonlyMap<string, Buffer>, RegExp]> = {
    'no signature in the file': [signedBy(), /malformed/],
    'two signatures': [signedBy(good, good), /malformed/],
    'another signature': [signedBy(good.replace(/.{8}$/, 'AAAAAAAA')), /not by key/],
    'no JWT': [signedBy('a.b'), /no JWT/],
    'alg none': [signedBy(`${base64({ alg: 'none', kid: 'k' })}.${base64({ files: covered })}.AA`), /signed by "none"/],
    'a MAC by the public key': [signedBy(token({ files: covered }, { alg: 'HS256', kid: 'k' })), /signed by "HS256"/],
    'a key nobody knows': [signedBy(token({ files: covered }, { alg: 'ES256', kid: 'other' })), /no key "other"/],
    'a key of every object': [signedBy(token({ files: covered }, { alg: 'ES256', kid: 'constructor' })), /no key "constructor"/],
    'another scope': [signedBy(token({ files: covered, scope: 'read' })), /scope "read"/],
    'a file that is not covered': [signedBy(token({ files: covered.slice(1) })), /does not cover/],
    'a file that is not there': [signedBy(token({ files: [...covered, { name: 'x', hash: '', algorithm: 'SHA-256' }] })), /lacks x/],
    'a file named twice': [signedBy(token({ files: [...covered, covered[0]] })), /twice/],
    'another hash': [signedBy(token({ files: covered.map(file => ({ ...file, hash: '00' })) })), /not the file/],
    'a hash that proves nothing': [signedBy(token({ files: covered.map(file => ({ ...file, algorithm: 'MD5' })) })), /which is not taken/]
  }
  for (const [what, [changed, message]] of Object.entries(refused)) {
    t.throws(() => verifyBundle(changed, verification), { code: 'rego_bundle_untrusted', message }, what)
  }
})
