import { createHash, X509Certificate } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { popAttestorPlugin } from '../../src/attestation/node/x509pop/pop-attestor-plugin.ts'
import { popVerifierPlugin } from '../../src/attestation/node/x509pop/pop-verifier-plugin.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { type MachineCertificate, MachineCa } from '../fakes/machine-ca.ts'
import { startTestServer, testPlugins } from '../fakes/server.ts'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { z } from 'zod'

const { signal } = new AbortController()
const trustDomain = parseTrustDomain('example.org')
const noWorkloadApi = { fetchWorkloadSvid: async () => { throw new Error('nobody has it asked') } }
const sha1 = (pem: string) => createHash('sha1').update(new X509Certificate(pem).raw).digest('hex')

async function folderOf (t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-x509pop-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

interface Shown {
  /** PEM. */
  readonly intermediates?: string
  /** What stands in place of the answer. */
  readonly swap?: (answer: Uint8Array) => Uint8Array
  readonly address?: string | undefined
}

/** A server's verifier that believes a company's CA, and agents that show it certificates by the plugin's own half. */
async function setUp (t: Test, config: object = {}, ownBundle?: Bundle) {
  const folder = await folderOf(t)
  const ca = await MachineCa.create('CN=Company CA')
  const roots = join(folder, 'roots.pem')
  await writeFile(roots, ca.pem)
  const settings = ownBundle === undefined ? { ca_bundle_path: roots, ...config } : config
  // Certificates are made later than this, some to have ended by then.
  const host = { clock: systemClock, trustDomain, ownBundle: () => ownBundle }
  const verifier = await popVerifierPlugin.start(popVerifierPlugin.config.parse(settings), host, signal)
  const attestorOf = async ({ certificate, key }: MachineCertificate, intermediates?: string) => {
    const path = (name: string) => join(folder, name)
    const files = { certificate_path: path('m.pem'), private_key_path: path('m.key'), intermediates_path: path('i.pem') }
    await writeFile(files.certificate_path, certificate)
    await writeFile(files.private_key_path, key)
    if (intermediates !== undefined) await writeFile(files.intermediates_path, intermediates)
    const chosen = intermediates === undefined ? { ...files, intermediates_path: '' } : files
    return await popAttestorPlugin.start(popAttestorPlugin.config.parse(chosen), noWorkloadApi, signal)
  }
  const attest = async (machine: MachineCertificate, { intermediates, swap = same => same, address = '192.0.2.7' }: Shown = {}) => {
    const proof = (await attestorOf(machine, intermediates)).attest(signal)
    const { value: payload } = await proof.next(new Uint8Array())
    return await verifier.verify(payload as Uint8Array, {
      signal, address, challenge: async challenge => swap((await proof.next(challenge)).value as Uint8Array)
    })
  }
  return { ca, roots, folder, verifier, attest, attestorOf }
}

void t.test('a machine is named by its certificate', async t => {
  const { ca, attest } = await setUp(t)
  const between = await ca.intermediate('CN=Site CA')
  for (const key of ['P-256', 'P-384', 'P-521', 'RSA'] as const) {
    const machine = await between.certify({ name: 'O=Company,CN=host-1', key, sans: [
      { type: 'url', value: 'x509pop://example.org/rack/7/b' }, { type: 'url', value: 'x509pop://other.org/rack/8' },
      { type: 'url', value: 'x509pop://example.org/alone' }, { type: 'dns', value: 'host-1.example.org' }
    ] })
    const serial = new X509Certificate(machine.certificate).serialNumber.toLowerCase()
    t.strictSame(await attest(machine, { intermediates: between.pem }), {
      idPath: sha1(machine.certificate),
      canReattest: true,
      selectors: [
        'subject:cn:host-1', `ca:fingerprint:${sha1(between.pem)}`, `ca:fingerprint:${sha1(ca.pem)}`, `serialnumber:${serial}`,
        'san:rack:7/b'
      ]
    }, key)
  }
})

void t.test('whose certificate is refused', async t => {
  const { ca, attest, folder, roots, verifier } = await setUp(t, { max_intermediates: 1, max_rsa_key_size: 2048 })
  const refused = (message: RegExp) => ({ code: 'attestation_refused', message })
  const machine = await ca.certify()
  const stranger = await MachineCa.create('CN=Company CA')
  await t.rejects(attest(await stranger.certify()), refused(/certificate verification failed/), 'another CA of that name')
  await t.rejects(attest(await ca.certify({ notAfter: new Date(Date.now() - 1000) })), refused(/verification failed/), 'one that has ended')
  await t.rejects(attest(await ca.certify({ usage: 'keyEncipherment' })), refused(/not intended for digital signature/))
  await t.rejects(attest(await ca.certify({ key: 'Ed25519' })), refused(/Ed25519|key/i))
  await t.rejects(attest(await ca.certify({ key: 'RSA', rsaBits: 3072 })), refused(/3072 bits.*max_rsa_key_size/))
  const [site, rack] = [await ca.intermediate('CN=Site'), await ca.intermediate('CN=Rack')]
  const tooMany = attest(await site.certify(), { intermediates: site.pem + rack.pem })
  await t.rejects(tooMany, { code: 'attestation_malformed', message: /max_intermediates/ })
  await t.rejects(attest(await site.certify()), refused(/verification failed/), 'a chain with a gap')

  const other = await ca.certify()
  const signedBy = async (key: string) => {
    const proof = (await (await setUp(t)).attestorOf({ ...other, key })).attest(signal)
    await proof.next(new Uint8Array())
    return proof
  }
  const thief = await signedBy(other.key)
  let asked: Uint8Array | undefined
  const theirs = async (payload: Uint8Array) => await verifier.verify(payload, {
    signal, address: undefined, challenge: async challenge => (asked = (await thief.next(challenge)).value as Uint8Array)
  })
  const stolen = Buffer.from(JSON.stringify({ certificates: [new X509Certificate(machine.certificate).raw.toString('base64')] }))
  await t.rejects(theirs(stolen), refused(/not signed by the certificate's key/), 'somebody else\'s certificate')
  await t.rejects(attest(machine, { swap: () => asked as Uint8Array }), refused(/not signed/), 'an answer of before')
  const changed = (change: (answer: Record<string, Record<string, string>>) => void) => (bytes: Uint8Array) => {
    const answer = JSON.parse(Buffer.from(bytes).toString()) as Record<string, Record<string, string>>
    change(answer)
    return Buffer.from(JSON.stringify(answer))
  }
  const long = Buffer.alloc(80, 1).toString('base64')
  await t.rejects(attest(machine, { swap: changed(answer => { answer['ecdsa_signature']!['r'] = long }) }), refused(/not signed/))
  await t.rejects(attest(machine, { swap: changed(answer => { answer['ecdsa_signature']!['s'] = 'AA==' }) }), refused(/not signed/))
  const malformed = { code: 'attestation_malformed' }
  await t.rejects(attest(machine, { swap: changed(answer => { answer['ecdsa_signature']!['nonce'] = 'AAAA' }) }), malformed)
  await t.rejects(attest(machine, { swap: changed(answer => { answer['rsa_signature'] = { nonce: long, signature: long } }) }), malformed)
  for (const certificates of ['[]', '["!"]', '["AAAA"]', '[1]', '1']) {
    await t.rejects(theirs(Buffer.from(`{"certificates":${certificates}}`)), malformed, certificates)
  }
  for (const payload of ['', '[]', '{}']) {
    await t.rejects(theirs(Buffer.from(payload)), malformed, payload)
  }
  await writeFile(roots, 'no PEM')
  const damaged = { code: 'file_unusable', message: /roots\.pem has no certificate/ }
  await t.rejects(attest(machine), damaged, 'a file that was damaged refuses, and is named')
  await writeFile(roots, stranger.pem)
  await t.rejects(attest(machine), refused(/verification failed/), 'a CA that was taken away')
  await writeFile(roots, ca.pem)
  t.match(await attest(machine), { canReattest: true }, 'and came back')
  await rm(join(folder, 'm.key'))
  const files = { certificatePath: join(folder, 'm.pem'), keyPath: join(folder, 'm.key'), intermediatesPath: undefined }
  const attestor = popAttestorPlugin.start(files, noWorkloadApi, signal)
  await t.rejects(attestor, { code: 'file_unusable', message: /m\.key cannot be used: ENOENT/ })
})

void t.test('a certificate that names where its machine is', async t => {
  const { ca, attest } = await setUp(t, { verify_client_ip: true })
  const machine = await ca.certify({ sans: [{ type: 'ip', value: '192.0.2.7' }, { type: 'ip', value: '2001:db8::7' }] })
  for (const address of ['192.0.2.7', '::ffff:192.0.2.7', '2001:db8:0::7', '[2001:db8::7]']) {
    t.match(await attest(machine, { address }), { canReattest: true }, address)
  }
  const refused = { code: 'attestation_refused', message: /client IP .* does not match/ }
  for (const address of ['192.0.2.8', '2001:db8::8']) await t.rejects(attest(machine, { address }), refused, address)
  await t.rejects(attest(await ca.certify(), { address: '192.0.2.7' }), refused)
})

void t.test('SVIDs of the trust domain, exchanged for an agent\'s', async t => {
  const authority = await createTestAuthority('example.org')
  const { attest } = await setUp(t, { mode: 'spiffe', spiffe_prefix: '/spire-exchange' }, authority.bundle)
  const machineOf = async (path: string) => {
    const { chain, privateKey } = await authority.issue(path)
    return { certificate: chain.map(der => encodePem('CERTIFICATE', der)).join(''), key: encodePem('PRIVATE KEY', privateKey) }
  }
  t.match(await attest(await machineOf('/spire-exchange/rack/host-1')), { idPath: 'rack/host-1' })
  const elsewhere = { code: 'attestation_refused', message: /is not below \/spire-exchange\// }
  await t.rejects(attest(await machineOf('/spire-exchanged/host-1')), elsewhere)
  const { attest: other } = await setUp(t, { mode: 'spiffe' }, (await createTestAuthority('example.org')).bundle)
  await t.rejects(other(await machineOf('/spire-exchange/host-1')), { code: 'attestation_refused' })
})

void t.test('agents named by the operator\'s template', async t => {
  const sans = [{ type: 'url', value: 'x509pop://example.org/rack/7/b' }, { type: 'dns', value: 'dns-1.example.org' }] as const
  const subject = { name: 'OU=a,OU=b,O=Company,C=CH,CN=Host 1', sans }
  const table: Record<string, string> = {
    '/{{ .PluginName }}/{{ .Subject.CommonName | nospace | lower }}': '/x509pop/host1',
    '/{{ .TrustDomain }}/{{ .URISanSelectors.rack }}': '/example.org/7/b',
    '/x/{{ index .Subject.OrganizationalUnit 1 }}-{{ join "." .Subject.OrganizationalUnit }}': '/x/b-a.b',
    '/x/{{ first .Subject.Organization }}/{{ index .Subject.Country 0 }}/{{ index .DNSNames 0 | splitList "." | join "/" }}':
      '/x/Company/CH/dns-1/example/org',
    '/x/{{ .Issuer.CommonName | replace " " "-" }}{{ if .SVIDPathTrimmed }}/no{{ end }}': '/x/Company-CA'
  }
  for (const [agent_path_template, agentPath] of Object.entries(table)) {
    const { ca, attest } = await setUp(t, { agent_path_template })
    const { agentPath: given, idPath } = await attest(await ca.certify(subject))
    t.strictSame([given, idPath], [agentPath, undefined], agent_path_template)
  }
  const { ca, attest } = await setUp(t, { agent_path_template: '/{{ .Fingerprint }}/{{ .SerialNumberHex }}' })
  const machine = await ca.certify()
  const serial = new X509Certificate(machine.certificate).serialNumber.toLowerCase()
  t.equal((await attest(machine)).agentPath, `/${sha1(machine.certificate)}/${serial}`)
  const { ca: own, attest: byName } = await setUp(t, { agent_path_template: '/{{ .Subject.CommonName }}' })
  const elsewhere = byName(await own.certify({ name: 'CN=sshpop/a' }))
  const stays = { code: 'template_not_rendered', message: /\.Subject\.CommonName holds "\/"/ }
  await t.rejects(elsewhere, stays, 'no machine names another attestor\'s agents')
  const missing = await setUp(t, { agent_path_template: '/x/{{ .URISanSelectors.rack }}' })
  const nothing = { code: 'template_not_rendered', message: /there is no \.URISanSelectors "rack"/ }
  await t.rejects(missing.attest(await missing.ca.certify()), nothing)
  const authority = await createTestAuthority('example.org')
  const { chain, privateKey } = await authority.issue('/any/rack/host-1')
  const svid = { certificate: chain.map(der => encodePem('CERTIFICATE', der)).join(''), key: encodePem('PRIVATE KEY', privateKey) }
  const settings = { mode: 'spiffe', svid_prefix: '', agent_path_template: '/x509pop/by/{{ .SVIDPathTrimmed }}' }
  t.match(await (await setUp(t, settings, authority.bundle)).attest(svid), { agentPath: '/x509pop/by/any/rack/host-1' })
})

void t.test('configurations that say too little or too much', async t => {
  const parse = (config: object) => () => popVerifierPlugin.config.parse(config)
  t.throws(parse({}), /ca_bundle_path/)
  t.throws(parse({ ca_bundle_path: 'a', ca_bundle_paths: ['b'] }), /only one/)
  t.throws(parse({ mode: 'spiffe', ca_bundle_path: 'a' }), /own bundle/)
  t.throws(parse({ mode: 'other', ca_bundle_path: 'a' }))
  t.throws(parse({ ca_bundle_path: 'a', max_intermediates: 0 }))
  t.throws(parse({ mode: 'spiffe', spiffe_prefix: '/a', svid_prefix: '/b' }), /only one may be given/)
  t.throws(parse({ mode: 'spiffe', svid_prefix: 'a' }), /must begin with \//)
  t.throws(parse({ ca_bundle_path: 'a', agent_path_template: '/{{ .Subject.Nobody }}' }), /no field .Nobody of .Subject/)
  t.throws(parse({ ca_bundle_path: 'a', agent_path_template: '/{{ dict "a" 1 }}' }), /the function dict is not offered/)
  t.throws(parse({ ca_bundle_path: 'a', agent_path_template: 'cn/{{ .Subject.CommonName }}' }), /must begin with a slash/)
})

void t.test('an agent attests by its machine\'s certificate, and again', async t => {
  const { ca, roots, folder } = await setUp(t)
  const machine = await ca.certify()
  const files = { certificate_path: join(folder, 'a.pem'), private_key_path: join(folder, 'a.key') }
  await writeFile(files.certificate_path, machine.certificate)
  await writeFile(files.private_key_path, machine.key)
  await using server = await startTestServer({ config: {
    plugins: testPlugins({ NodeAttestor: { x509pop: { plugin_data: { ca_bundle_path: roots } } } })
  } })
  const plugins = z.strictObject(pluginSchemas(agentCatalog)).parse({ NodeAttestor: { x509pop: { plugin_data: files } } })
  const path = `/spire/agent/x509pop/${sha1(machine.certificate)}`
  for (const time of ['first', 'again']) {
    await using _ = await startTestAgent(server, { config: { plugins, joinToken: undefined } })
    const known = async () => (await server.admin.client(agentService).listAgents({})).agents.filter(({ id }) => id?.path === path)
    await eventually(`the agent, ${time}`, async () => (await known()).length === 1)
    t.match((await known())[0], { attestationType: 'x509pop', canReattest: true, banned: false })
  }
})

void t.test('an agent attests by what it is to another agent\'s Workload API', async t => {
  await using server = await startTestServer({ config: {
    plugins: testPlugins({ NodeAttestor: { x509pop: { plugin_data: { mode: 'spiffe' } } } })
  } })
  await using first = await startTestAgent(server)
  const { log, lines } = capturedLog()
  const plugins = z.strictObject(pluginSchemas(agentCatalog)).parse({
    NodeAttestor: { x509pop: { plugin_data: { spiffe_endpoint_socket: `unix://${first.config.socketPath}` } } }
  })
  const joining = startTestAgent(server, { config: { plugins, joinToken: undefined }, log })
  await eventually('it to be without an identity there', () => lines.some(({ msg, err }) =>
    msg === 'joining failed for now; trying again' && (err as { code?: string }).code === 'workload_api_unavailable'), 60_000)
  const { results } = await server.admin.client(entryService).batchCreateEntry({ entries: [{
    spiffeId: { trustDomain, path: '/spire-exchange/node-7' }, parentId: { trustDomain, path: first.path },
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  }] })
  t.equal(results[0]?.status?.code, 0)
  await using _ = await joining
  const { agents } = await server.admin.client(agentService).listAgents({ filter: { byAttestationType: 'x509pop' } })
  t.match(agents, [{ id: { path: '/spire/agent/x509pop/node-7' }, canReattest: true }], 'named by its SVID there')
})

void t.test('where an agent gets its certificate is said once', async t => {
  const parse = (data: object) => () => popAttestorPlugin.config.parse(data)
  t.strictSame(parse({ spiffe_endpoint_socket: 'unix:///run/a.sock' })(), { socketPath: '/run/a.sock' })
  t.throws(parse({ spiffe_endpoint_socket: 'unix:///run/a.sock', certificate_path: 'a' }), /says nothing beside spiffe_endpoint_socket/)
  t.throws(parse({ spiffe_endpoint_socket: 'tcp://127.0.0.1:80' }), /must be a Unix socket/)
  t.throws(parse({ spiffe_endpoint_socket: '/run/a.sock' }), /scheme is neither/)
  t.throws(parse({ spiffe_endpoint_socket: '' }), /scheme is neither/)
  for (const [key, other] of [['certificate_path', 'private_key_path'], ['private_key_path', 'certificate_path']] as const) {
    t.match(popAttestorPlugin.config.safeParse({ [other]: 'a' }).error?.issues, [{ path: [key], message: 'is required' }])
  }
})
