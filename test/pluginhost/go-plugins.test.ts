import { createPublicKey, hash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { agentStore } from '../../src/pluginhost/host-services.ts'
import { Composition } from '../../src/ca/composition.ts'
import { startExternalBundlePublisher } from '../../src/pluginhost/bundle-publisher.ts'
import type { ManagedKey } from '../../src/keys/key-manager.ts'
import { startExternalComposer } from '../../src/pluginhost/credential-composer.ts'
import { startExternalKeyManager } from '../../src/pluginhost/key-manager.ts'
import { startExternalNodeAttestor } from '../../src/pluginhost/node-attestor.ts'
import { startExternalNotifier } from '../../src/pluginhost/notifier.ts'
import { startExternalNodeVerifier } from '../../src/pluginhost/node-verifier.ts'
import { startExternalSvidStore } from '../../src/pluginhost/svid-store.ts'
import { startExternalWorkloadAttestor } from '../../src/pluginhost/workload-attestor.ts'
import { pluginSchemas, startPlugins, type Catalog } from '../../src/plugins/catalog.ts'
import { readConfig } from '../../src/runtime/config-file.ts'
import { parseHcl } from '../../src/runtime/hcl-text.ts'
import { serverCatalog, type ServerPluginHost, type ServerPlugins } from '../../src/server/server-catalog.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { readDistinguishedName } from '../../src/x509/distinguished-name.ts'
import { createTestAuthority, makeTestKey, type TestAuthority } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { pluginHost, programOf } from '../fakes/plugin-host.ts'
import { buildGoPlugin, withoutGo } from '../interop/go-programs.ts'

t.setTimeout(300_000)
const { signal } = new AbortController()
const binary = withoutGo === false ? await buildGoPlugin() : ''
const caller = { pid: process.pid, uid: 0, gid: 0, check: () => {} }
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString()

void t.test('a workload attestor made with SPIRE\'s plugin SDK', { skip: withoutGo }, async t => {
  const { host, lines } = pluginHost()
  const data = {
    label: 'quotes " and \\ and ${braces} and\nlines', count: 7, strict: true, names: ['a', 'b'], nested: { 'a key': 'x', plain: 'ü' }
  }
  const attestor = await startExternalWorkloadAttestor('acme', programOf(binary, ['WorkloadAttestor'], data), host, signal)
  t.strictSame(new Set(await attestor.attest(caller, signal)), new Set([
    `pid:${process.pid}`, `label:${data.label}`, 'count:7', 'strict:true', 'name:a', 'name:b', 'nested:a key:x', 'nested:plain:ü'
  ].map(value => ({ type: 'acme', value }))), 'it is configured as the configuration says, and its name is the selectors\' type')
  await eventually('its own log to be read', () => lines.some(({ msg }) => msg === 'plugin: configured'))
  t.match(lines.find(({ msg }) => msg === 'plugin: configured'), { level: 'info', plugin: 'acme', pluginType: 'WorkloadAttestor' })
  await eventually('what it prints to be read', () => ['a line on standard output', 'a line on standard error'].every(text =>
    lines.some(({ line }) => line === text)))
  const { pid } = lines.find(({ msg }) => msg === 'plugin is running') as { pid: number } & typeof lines[number]
  await attestor[Symbol.asyncDispose]()
  t.notOk(existsSync(`/proc/${pid}`), 'it ends with us')
  t.match(lines.find(({ msg }) => msg === 'plugin has ended'), { how: 'exit code 0' }, 'and by itself')
})

void t.test('a workload attestor that knows references alone is asked by one', { skip: withoutGo }, async t => {
  const { host } = pluginHost()
  const program = programOf(binary, ['ReferenceWorkloadAttestor'])
  await using attestor = await startExternalWorkloadAttestor('acme', program, host, signal)
  t.strictSame(await attestor.attest(caller, signal), [{ type: 'acme', value: `by-reference:${process.pid}` }], 'a PID, as in SPIRE')
})

void t.test('a configuration that it refuses keeps it from starting', { skip: withoutGo }, async t => {
  const { host, lines } = pluginHost()
  const program = programOf(binary, ['WorkloadAttestor'], { refuse: 'the reason', label: 'secret-value' })
  await t.rejects(startExternalWorkloadAttestor('acme', program, host, signal), {
    code: 'plugin_config_refused', message: 'it refuses its configuration: INVALID_ARGUMENT: refuse: the reason'
  })
  t.notMatch(JSON.stringify(lines), 'secret-value', 'plugin_data is in no line of ours')
  await t.rejects(startExternalNodeAttestor('acme', programOf(binary, ['WorkloadAttestor']), host, signal),
    { code: 'plugin_not_started', message: /is it a plugin of the type NodeAttestor/ }, 'another type than it is meant for')
  const server = pluginHost({ hostServices: [agentStore(async () => false)] }).host
  await t.rejects(startExternalNodeAttestor('acme', programOf(binary, ['ServerNodeAttestor']), server, signal),
    { code: 'plugin_handshake_failed', message: /does not serve spire\.plugin\.agent\.nodeattestor/ }, 'the other half of its type')
})

void t.test('both halves of a node attestor', { skip: withoutGo }, async t => {
  const known = 'spiffe://example.org/spire/agent/tpm/node-8'
  const { host } = pluginHost({ hostServices: [agentStore(async id => id === known)] })
  await using attestor = await startExternalNodeAttestor('tpm', programOf(binary, ['AgentNodeAttestor'], { label: 'node-7' }), host, signal)
  await using verifier = await startExternalNodeVerifier('tpm', programOf(binary, ['ServerNodeAttestor'], { label: 'tpm' }), host, signal)
  const proof = attestor.attest(signal)
  const first = await proof.next(new Uint8Array())
  const challenge = async (bytes: Uint8Array) => {
    t.equal(text(bytes), 'who?')
    return (await proof.next(bytes)).value as Uint8Array
  }
  const exchange = { signal, address: undefined, challenge }
  t.strictSame(await verifier.verify(first.value as Uint8Array, exchange), {
    idPath: 'node-7', selectors: ['node:node-7', 'known:false'], canReattest: true
  }, 'payload, challenge, answer and attributes pass')
  const right = { ...exchange, challenge: async () => Buffer.from('answer to who?') }
  t.match(await verifier.verify(Buffer.from('node-8'), right), { selectors: ['node:node-8', 'known:true'] }, 'it may ask who has attested')
  await t.rejects(startExternalNodeVerifier('tpm', programOf(binary, ['ServerNodeAttestor']), pluginHost().host, signal), {
    code: 'plugin_not_started', message: /AgentStore host service is required/
  }, 'a host that does not say it')
  t.strictSame(await proof.next(Buffer.from('again')), { done: true, value: undefined }, 'the plugin ended its stream')
  await t.rejects(verifier.verify(Buffer.from('stranger'), exchange), {
    code: 'attestation_refused', message: 'tpm: nobody knows this node'
  })
  const wrong = { ...exchange, challenge: async () => Buffer.from('wrong') }
  await t.rejects(verifier.verify(Buffer.from('x'), wrong), { code: 'attestation_refused' })
  const broken = new Error('the agent went away')
  const away = { ...exchange, challenge: async () => { throw broken } }
  await t.rejects(verifier.verify(Buffer.from('x'), away), broken, 'what the agent did is not the plugin\'s')

  await using other = await startExternalNodeVerifier('mine', programOf(binary, ['ServerNodeAttestor'], { label: 'other' }), host, signal)
  await t.rejects(other.verify(Buffer.from('x'), right), {
    code: 'plugin_failed', message: /is not below spiffe:\/\/example\.org\/spire\/agent\/mine\// }, 'an ID that is not of this attestor')
})

void t.test('keys in a plugin', { skip: withoutGo }, async t => {
  const { host } = pluginHost()
  const program = programOf(binary, ['KeyManager'], { keys_path: join(t.testdir(), 'keys.json') })
  let known: Uint8Array
  {
    await using keys = await startExternalKeyManager('acme', program, host, signal)
    t.strictSame(keys.ids, [])
    for (const type of ['ec-p256', 'ec-p384', 'rsa-2048'] as const) {
      const key = await keys.generateKey(`k-${type}`, type)
      t.equal(key.type, type)
      t.ok((await key.sign(Buffer.from('x'), 'ieee-p1363')).length > 0, `${type} signs, and the signature was checked`)
    }
    await t.rejects(keys.generateKey('k', 'rsa-4096'), { code: 'key_service_failed' })
    const before = keys.getKey('k-ec-p256') as ManagedKey
    await keys.generateKey('k-ec-p256', 'ec-p256')
    await t.rejects(before.sign(Buffer.from('x'), 'der'), { code: 'key_service_malformed' }, 'a key that was replaced signs no more')
    known = keys.getKey('k-ec-p256')?.publicKey ?? new Uint8Array()
  }
  await using keys = await startExternalKeyManager('acme', program, host, signal)
  t.strictSame(keys.ids.toSorted(), ['k-ec-p256', 'k-ec-p384', 'k-rsa-2048'], 'what the plugin has kept is there again')
  t.strictSame(Buffer.from(keys.getKey('k-ec-p256')?.publicKey ?? ''), Buffer.from(known))
})

void t.test('a plugin that dies in a call fails the call, and is started again', { skip: withoutGo }, async t => {
  const { host, lines } = pluginHost()
  await using attestor = await startExternalWorkloadAttestor('acme', programOf(binary, ['WorkloadAttestor'], { die: true }), host, signal)
  await t.rejects(attestor.attest(caller, signal), { code: 'plugin_unavailable' })
  await eventually('its death to be seen', () => lines.some(({ how }) => how === 'exit code 7'))
  await eventually('it to run again', () => lines.filter(({ msg }) => msg === 'plugin is running').length === 2)
  await eventually('the new one to be asked, and to die', async () => {
    await attestor.attest(caller, signal).catch((error: unknown) => t.equal(codeOf(error), 'plugin_unavailable'))
    // A death may be told after the call that it failed, and the next call of this loop may be another one's.
    return lines.filter(({ how }) => how === 'exit code 7').length >= 2
  })
})

void t.test('answers that do not come, and answers that are too large', { skip: withoutGo }, async t => {
  const { host, lines } = pluginHost()
  await using slow = await startExternalWorkloadAttestor('slow', programOf(binary, ['WorkloadAttestor'], { slow: true }), host, signal)
  const enough = new AbortController()
  const asked = slow.attest(caller, enough.signal)
  await eventually('it to be asked', () => lines.some(({ msg }) => msg === 'plugin: asked'))
  const reason = new Error('the caller went away')
  enough.abort(reason)
  await t.rejects(asked, reason)
  await eventually('the plugin to be told', () => lines.some(({ msg }) => msg === 'plugin: cancelled'))
  await using giant = await startExternalWorkloadAttestor('giant', programOf(binary, ['WorkloadAttestor'], { giant: true }), host, signal)
  await t.rejects(giant.attest(caller, signal), { code: 'plugin_failed', message: /RESOURCE_EXHAUSTED/ })
})

void t.test('who is told of the bundle', { skip: withoutGo }, async t => {
  const { host } = pluginHost()
  const record = join(t.testdir(), 'record')
  const bundle = {
    trustDomain: host.trustDomain, x509Authorities: [{ certificate: Buffer.from('der'), tainted: false }], jwtAuthorities: [],
    sequenceNumber: 7n
  }
  await using publisher = await startExternalBundlePublisher('s3', programOf(binary, ['BundlePublisher'], { record }), host, signal)
  await publisher.places[0]?.publish({ bundle }, signal)
  await using notifier = await startExternalNotifier('mail', programOf(binary, ['Notifier'], { record }), host, signal)
  await notifier.bundleLoaded(bundle, signal)
  await notifier.bundleUpdated(bundle, signal)
  t.equal(await readFile(record, 'utf8'), ['published', 'loaded', 'updated'].map(what => `${what} example.org 1 7\n`).join(''))
  await using strict = await startExternalNotifier('strict', programOf(binary, ['Notifier'], { strict: true }), host, signal)
  await t.rejects(strict.bundleLoaded(bundle, signal), { code: 'plugin_failed', message: /FAILED_PRECONDITION: not this bundle/ })
})

void t.test('who composes credentials', { skip: withoutGo }, async t => {
  const { host } = pluginHost()
  const data = { label: 'made here', names: ['db.test'] }
  await using composer = await startExternalComposer('acme', programOf(binary, ['CredentialComposer'], data), host, signal)
  const composition = new Composition([composer])
  const publicKey = new Uint8Array(createPublicKey(makeTestKey()).export({ format: 'der', type: 'spki' }))
  const draft = { id: parseSpiffeId('spiffe://example.org/db'), publicKey, dnsNames: ['db'] }
  const { subject, dnsNames, extensions } = await composition.x509Svid(draft)
  t.match(readDistinguishedName(subject), {
    country: ['US'], organizationalUnit: ['made here'], extraNames: [{ oid: '2.5.4.45', value: draft.id }]
  }, 'of a workload')
  t.strictSame(dnsNames, ['db', 'db.test'])
  t.ok(Buffer.from(extensions).includes(Buffer.from([4, 1, 7])))
  const agent = { ...draft, id: parseSpiffeId('spiffe://example.org/spire/agent/join_token/x') }
  t.strictSame((await composition.x509Svid(agent)).dnsNames, ['db'], 'an answer without attributes changes nothing')
  const ca = await composition.ca({ country: ['US'], organization: ['SPIFFE'], commonName: '' })
  t.strictSame(readDistinguishedName(ca.subject).organization, ['SPIFFE'], 'nor does a method that it lacks')
  const claims = { sub: draft.id, aud: ['x'], exp: 1_900_000_000, iat: 1_800_000_000, nested: { a: [1, true, null] } }
  t.strictSame(JSON.parse(JSON.stringify(await composition.jwtSvid(draft.id, claims))), { ...claims, label: 'made here' })
  await using strict = await startExternalComposer('strict', programOf(binary, ['CredentialComposer'], { strict: true }), host, signal)
  await t.rejects(new Composition([strict]).x509Svid(draft), { code: 'plugin_failed', message: /PERMISSION_DENIED: not this workload/ })
})

void t.test('composers, our own and programs, compose in the order of the configuration, as in SPIRE', { skip: withoutGo }, async t => {
  const catalog: Catalog<Pick<ServerPlugins, 'CredentialComposer'>, ServerPluginHost> = {
    CredentialComposer: serverCatalog.CredentialComposer
  }
  const schema = z.strictObject({ plugins: z.strictObject(pluginSchemas(catalog)) })
  const publicKey = new Uint8Array(createPublicKey(makeTestKey()).export({ format: 'der', type: 'spki' }))
  const id = parseSpiffeId('spiffe://example.org/db')
  const namesWhen = async (...blocks: string[]) => {
    const text = `plugins { ${blocks.join('\n')} }`
    const { value } = readConfig(schema, { file: { name: 'server.conf', text, parse: parseHcl, looselyTyped: true } })
    if (value === undefined) throw new Error('the configuration is refused')
    await using plugins = await startPlugins(catalog, value.plugins, pluginHost().host as ServerPluginHost, signal)
    const { subject } = await new Composition(plugins.all('CredentialComposer')).x509Svid({ id, publicKey, dnsNames: [] })
    return readDistinguishedName(subject).extraNames.map(({ value }) => value)
  }
  const acme = `CredentialComposer "acme" { plugin_cmd = "${binary}" plugin_args = ["CredentialComposer"] plugin_data { label = "x" } }`
  const own = 'CredentialComposer "uniqueid" {}'
  const unique = hash('sha256', id, 'hex').slice(0, 32)
  t.strictSame(await namesWhen(own, acme), [unique, id], 'the program adds to what uniqueid made')
  t.strictSame(await namesWhen(acme, own), [unique], 'uniqueid takes the place of what the program made')
})

void t.test('where SVIDs are stored', { skip: withoutGo }, async t => {
  const { host } = pluginHost()
  const record = join(t.testdir(), 'record')
  await using store = await startExternalSvidStore('acme', programOf(binary, ['SVIDStore'], { record }), host, signal)
  const [own, other] = await Promise.all(['example.org', 'other.test'].map(domain => createTestAuthority(domain)))
  const roots = ({ bundle }: TestAuthority) => bundle.x509Authorities.map(({ certificate }) => certificate)
  const svid = { ...await own!.issue('/db'), hint: '' }
  const federatedBundles = new Map([[other!.trustDomain, [...roots(other!), ...roots(own!)]]])
  await store.putX509Svid({ metadata: ['vault:a', 'path:b'], svid, bundle: roots(own!), federatedBundles }, signal)
  await store.deleteX509Svid(['vault:a', 'path:b'], signal)
  t.equal(await readFile(record, 'utf8'), `put vault:a,path:b ${svid.id} true 1 other.test:2\ndelete vault:a,path:b\n`)
  await t.rejects(store.deleteX509Svid(['nowhere'], signal), { code: 'argument_invalid' }, 'what cannot be there is not asked about again')
  await t.rejects(store.deleteX509Svid(['locked'], signal), { code: 'plugin_unavailable' })
})
