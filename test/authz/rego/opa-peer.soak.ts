import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { verifyBundle } from '../../../src/authz/rego/bundle-signature.ts'
import { FileSource } from '../../../src/authz/rego/file-source.ts'
import { openRego } from '../../../src/authz/rego/open-rego.ts'
import { readBundle } from '../../../src/authz/rego/rego-bundle.ts'
import { RegoSet } from '../../../src/authz/rego/rego-set.ts'
import { readTarGz } from '../../../src/authz/rego/tar-archive.ts'
import { systemClock } from '../../../src/runtime/clock.ts'
import { eventually } from '../../fakes/eventually.ts'
import { envoyInputs } from './envoy-inputs.ts'
import { buildOpa, runOpa, withoutGo, writeFiles } from './real-opa.ts'
import { someCertificate } from './some-certificate.ts'

if (withoutGo === false) await buildOpa()

const limits = { threads: 1, timeoutMs: 60_000, memoryMb: 64, maxWaiting: 1000 }
const nowSeconds = 1_795_671_000
const policy = (name: string) => readFileSync(join(import.meta.dirname, 'policies', name), 'utf8')
const rulesOf = (rego: string) => [...new Set([...rego.matchAll(/^(?:default )?([a-z]\w*)(?: :=| if| contains)/gm)].map(([,
  name]) => name as string))]

t.test('a policy decides in WebAssembly as opa eval decides', { skip: withoutGo }, async t => {
  const folder = t.testdir()
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const inputs = envoyInputs({ ec: ec.privateKey, rsa: rsa.privateKey, secret: 's' }, nowSeconds, await someCertificate())
  const jwks = { keys: [{ ...ec.publicKey.export({ format: 'jwk' }), kid: 'ES256', alg: 'ES256' },
    { ...rsa.publicKey.export({ format: 'jwk' }), kid: 'RS256', alg: 'RS256' }] }
  const data = {
    roles: { 'spiffe://example.org/shop': ['seller'] }, grants: { seller: [{ method: 'POST', path: '/api/*/orders/*' },
      { method: 'PUT', path: '/cart' }] },
    jwks: JSON.stringify(jwks), now: nowSeconds * 1e9, secret: 's', networks: { office: '10.0.0.0/8',
      lab: '192.0.2.0/24' }, prefixes: ['/api/', '/public']
  }
  const rego = { envoy: policy('envoy.rego'), builtins: policy('builtins.rego') }
  await writeFiles(folder, { 'p/envoy.rego': rego.envoy, 'p/builtins.rego': rego.builtins, 'p/data.json': JSON.stringify(data),
    'inputs.json': JSON.stringify({ inputs }) })
  const paths = [...rulesOf(rego.envoy).map(rule => `envoy/authz/${rule}`), ...rulesOf(rego.builtins).map(rule => `builtins/${rule}`)]
  await runOpa(['build', '-t', 'wasm', ...paths.flatMap(path => ['-e', path]), '-b', 'p', '-o', 'bundle.tar.gz'], folder)
  // One process for all pairs; what is undefined is not in the answer.
  const asked = paths.map(path =>
    `${JSON.stringify(path)}: {name: v | some name; i := data.inputs[name]; v := data.${path.replaceAll('/', '.')} with input as i}`)
  const printed = await runOpa(['eval', '-d', 'p', '-d', 'inputs.json', '--format=raw', `{${asked.join(', ')}}`], folder)
  const expected = JSON.parse(printed) as Record<string, Record<string, unknown>>

  await using set = await RegoSet.open(
    new Map([['p', await readBundle(await readFile(join(folder, 'bundle.tar.gz')),
      undefined)]]), limits, systemClock, new AbortController().signal
  )
  t.same(set.entrypoints, paths.toSorted())
  let [pairs, defined] = [0, 0]
  for (const path of paths) {
    for (const [name, input] of Object.entries(inputs)) {
      // A policy about no input needs to be asked only once.
      if (path.startsWith('builtins/') && name !== 'empty object') continue
      const { result } = await set.evaluate(path, input, { time: new Date(nowSeconds * 1000) })
      t.same(result, expected[path]?.[name], `${path}, ${name}`)
      pairs++
      if (result !== undefined) defined++
    }
  }
  t.comment(`${pairs} pairs, ${defined} of them defined`)
  t.ok(pairs > 400 && defined > 150 && pairs - defined > 100, 'the suite is as large as it was, and says both something and nothing')
})

t.test('bundles signed by opa sign', { skip: withoutGo }, async t => {
  const folder = t.testdir()
  const [ec, rsa] = [generateKeyPairSync('ec', { namedCurve: 'P-256' }), generateKeyPairSync('rsa', { modulusLength: 2048 })]
  const strangers = {
    ec: generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey, rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey
  }
  const pem = (key: typeof ec.publicKey) => key.export({ type: key.type === 'public' ? 'spki' : 'pkcs8', format: 'pem' }) as string
  await writeFiles(folder, {
    'ec.pem': pem(ec.privateKey), 'rsa.pem': pem(rsa.privateKey), 'p/a.rego': 'package a\nx := data.d.n',
    'claims.json': '{"scope": "write"}',
    'p/d/data.json': String.raw`{"z": 1.0, "n": 1e3, "big": 123456789012345678901, "\u2028": ["é<>&\u0001\b\f", null, true, {}],
      "a": {"b": [], "a": -0.10}, "\ud83d\ude00": 1, "\uffee": 2}`,
    'p/e/data.yaml': 'name: value\nlist: [1, two, true]\n', 'p/.manifest': '{"revision": "r1",   "roots": ["a", "d", "e"]}'
  })
  const cases = [
    { algorithm: 'ES256', key: 'ec.pem', verify: pem(ec.publicKey) }, { algorithm: 'RS256', key: 'rsa.pem', verify: pem(rsa.publicKey) },
    { algorithm: 'PS256', key: 'rsa.pem', verify: pem(rsa.publicKey) }, { algorithm: 'HS256', key: 'hmac-secret', verify: 'hmac-secret' }
  ] as const
  for (const { algorithm, key, verify } of cases) {
    await runOpa(['build', '-t', 'wasm', '-e', 'a/x', '-b', 'p', '-o', 'b.tar.gz', '--signing-alg', algorithm, '--signing-key', key],
      folder)
    const bytes = await readFile(join(folder, 'b.tar.gz'))
    // Without --claims-file, opa names no key in the token: the configuration says which.
    const bundle = await readBundle(bytes, { keys: { k: { algorithm, key: verify } }, keyId: 'k' })
    t.equal(bundle.revision, 'r1', algorithm)
    const other = algorithm === 'HS256' ? 'else' : pem(algorithm === 'ES256' ? strangers.ec : strangers.rsa)
    await t.rejects(readBundle(bytes, { keys: { k: { algorithm, key: other } }, keyId: 'k' }), { code: 'rego_bundle_untrusted' },
      `${algorithm}: another key`)
  }

  await runOpa(['sign', '--signing-key', '../ec.pem', '--signing-alg', 'ES256', '--claims-file', '../claims.json', '--bundle', '.'],
    join(folder, 'p'))
  const files = new Map(await Promise.all(['a.rego', 'd/data.json', 'e/data.yaml', '.manifest', '.signatures.json'].map(
    async name => [name, await readFile(join(folder, 'p', name))] as const)))
  const keys = { k: { algorithm: 'ES256', key: pem(ec.publicKey) } } as const
  t.doesNotThrow(() => verifyBundle(files, { keys, keyId: 'k', scope: 'write' }),
    'raw numbers, escapes, order of names and YAML hash as opa hashes them')
  t.throws(() => verifyBundle(files, { keys, keyId: 'k' }), { code: 'rego_bundle_untrusted', message: /scope/ })
  const changed = (name: string, from: string, to: string) => new Map(files).set(name,
    Buffer.from(String(files.get(name)).replace(from, to)))
  t.doesNotThrow(() => verifyBundle(changed('d/data.json', '"z": 1.0, "n": 1e3', '"n":1e3,"z":1.0'), { keys, keyId: 'k', scope: 'write' }),
    'order and blanks are not signed')
  for (const [name, from, to] of [['d/data.json', '1.0', '1'], ['a.rego', 'x :=', 'x  :='], ['e/data.yaml', 'two', 'three'],
    ['.manifest', 'r1', 'r2']] as const) {
    t.throws(() => verifyBundle(changed(name, from, to), { keys, keyId: 'k', scope: 'write' }),
      { code: 'rego_bundle_untrusted', message: /not the file/ }, name)
  }
  t.throws(() => verifyBundle(new Map(files).set('x.rego', Buffer.from('')), { keys, keyId: 'k', scope: 'write' }),
    { message: /does not cover x.rego/ })
})

t.test('a folder of Rego is built by opa, and again when a file changes', { skip: withoutGo }, async t => {
  const folder = t.testdir({ 'a.rego': 'package a\nx := data.n', 'data.json': '{"n": 1}' })
  const source = new FileSource({ path: folder, build: { opaPath: await buildOpa(), entrypoints: ['a/x'] }, pollMs: 20 })
  const problems: unknown[] = []
  await using rego = await openRego({ bundles: { b: { source } }, limits, clock: systemClock,
    onProblem: (_, error) => problems.push(error) })
  const ask = async () => (await rego.current.value?.evaluate('a/x', undefined, { time: new Date(0) }))?.result
  t.equal(await ask(), 1)
  await writeFiles(folder, { 'data.json': '{"n": 22}' })
  await eventually('the new data are in use', async () => await ask() === 22)
  await writeFiles(folder, { 'a.rego': 'package a\nx := y' })
  await eventually('opa refuses it', () => problems.length > 0)
  t.match(problems[0], { code: 'rego_bundle_invalid', message: /a\.rego:2: rego_unsafe_var_error/ })
  t.equal(await ask(), 22, 'the last good one stays in force')
})

t.test('what opa build writes is a plain archive', { skip: withoutGo }, async t => {
  const folder = t.testdir({ p: { 'a.rego': 'package a\nx := 1' } })
  await runOpa(['build', '-b', 'p', '-o', 'b.tar.gz'], folder)
  const bytes = await readFile(join(folder, 'b.tar.gz'))
  t.same([...(await readTarGz(bytes)).keys()].toSorted(), ['.manifest', 'data.json', 'p/a.rego'])
  await t.rejects(readBundle(bytes, undefined), { code: 'rego_bundle_invalid', message: /opa build -t wasm -e/ })
  await writeFiles(folder, { 'p/a.rego': 'package a\nx := http.send({"method": "get", "url": input.u}).body' })
  await runOpa(['build', '-t', 'wasm', '-e', 'a/x', '-b', 'p', '-o', 'b.tar.gz'], folder)
  const bundle = await readBundle(await readFile(join(folder, 'b.tar.gz')), undefined)
  await t.rejects(RegoSet.open(new Map([['b', bundle]]), limits, systemClock, new AbortController().signal), {
    code: 'rego_bundle_invalid', message: /calls http\.send, which asks the network/
  })
})
