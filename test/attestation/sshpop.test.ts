import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { sshAttestorPlugin } from '../../src/attestation/node/sshpop/ssh-attestor-plugin.ts'
import { encodeString } from '../../src/attestation/node/sshpop/ssh-encoding.ts'
import { sshVerifierPlugin } from '../../src/attestation/node/sshpop/ssh-verifier-plugin.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer, testPlugins } from '../fakes/server.ts'
import { type HostFiles, SshCa, withoutSshKeygen } from '../fakes/ssh-keygen.ts'

const { signal } = new AbortController()
const skip = withoutSshKeygen

async function blobOf ({ host_cert_path: path }: HostFiles): Promise<Buffer> {
  return Buffer.from((await readFile(path, 'utf8')).split(' ')[1] as string, 'base64')
}

const fingerprintOf = async (files: HostFiles) => createHash('sha256').update(await blobOf(files)).digest('base64url')

/** A server's verifier that believes a CA of OpenSSH's, and hosts that show it certificates by the plugin's own half. */
async function setUp (t: Test, config: object = {}, at = new Date()) {
  const folder = await mkdtemp(join(tmpdir(), 'assay-sshpop-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const ca = await SshCa.create(folder)
  const start = (settings: object) =>
    sshVerifierPlugin.start(sshVerifierPlugin.config.parse(settings), { clock: new ManualClock(at) }, signal)
  const verifier = await start({ cert_authorities: [ca.publicKey], ...config })
  /** @param swap what stands in place of the answer. @param shown what stands in place of the host's certificate */
  const attest = async (files: HostFiles, swap = (answer: Uint8Array): Uint8Array => answer, shown?: Uint8Array) => {
    const proof = (await sshAttestorPlugin.start(sshAttestorPlugin.config.parse(files), undefined, signal)).attest(signal)
    const { value: payload } = await proof.next(new Uint8Array())
    return await verifier.verify(shown ?? payload as Uint8Array, {
      signal, address: undefined, challenge: async challenge => swap((await proof.next(challenge)).value as Uint8Array)
    })
  }
  return { folder, ca, start, verifier, attest }
}

void t.test('a host is named by the certificate of its SSH server', { skip }, async t => {
  const { ca, attest } = await setUp(t)
  const kinds = [['ed25519'], ['ecdsa', 256], ['ecdsa', 384], ['ecdsa', 521], ['rsa']] as const
  for (const [kind, bits] of kinds) {
    const files = await ca.certify(kind, {}, bits)
    t.strictSame(await attest(files), { idPath: await fingerprintOf(files), selectors: [], canReattest: true }, `${kind} ${bits ?? ''}`)
  }
  for (const form of ['PEM', 'PKCS8']) {
    t.match(await attest(await ca.certify('ecdsa', { keyOptions: ['-m', form] })), { canReattest: true }, `a key in ${form}`)
  }
})

void t.test('CAs of each kind, from settings and from a file, which is read each time', { skip }, async t => {
  const { folder, attest: unknown } = await setUp(t)
  const cas = await Promise.all((['ed25519', 'ecdsa', 'rsa'] as const).map(kind => SshCa.create(folder, `ca-${kind}`, kind)))
  const path = join(folder, 'authorities')
  const refused = { code: 'attestation_refused', message: /no authority that is believed/ }
  await writeFile(path, `# hosts of the company\n\n${cas.map(ca => `cert-authority,no-pty ${ca.publicKey}`).join('\n')}\n`)
  const { attest } = await setUp(t, { cert_authorities_path: path })
  for (const ca of cas) {
    const files = await ca.certify()
    t.match(await attest(files), { idPath: await fingerprintOf(files) })
    await t.rejects(unknown(files), refused, 'a CA that is not believed')
  }
  await writeFile(path, `${cas[0]!.publicKey}\n`)
  await t.rejects(attest(await cas[1]!.certify()), refused, 'a CA that was taken away')
  await writeFile(path, 'ssh-ed25519 AAAA\n')
  await t.rejects(attest(await cas[0]!.certify()), { code: 'file_unusable', message: /authorities/ })
  await writeFile(path, '# none\n')
  await t.rejects(attest(await cas[0]!.certify()), { code: 'file_unusable', message: /has no key/ })
})

void t.test('whose certificate is refused', { skip }, async t => {
  const { folder, ca, attest } = await setUp(t, { canonical_domain: 'example.org' }, new Date('2026-06-01T00:00:00Z'))
  const refused = (message: RegExp) => ({ code: 'attestation_refused', message })
  t.match(await attest(await ca.certify('ed25519', { validity: '20260501:20260701' })), { canReattest: true }, 'one in its time')
  await t.rejects(attest(await ca.certify('ed25519', { validity: '20260101:20260201' })), refused(/has expired/))
  await t.rejects(attest(await ca.certify('ed25519', { validity: '20260701:20260801' })), refused(/not yet valid/))
  await t.rejects(attest(await ca.certify('ed25519', { user: [] })), refused(/a user's/))
  await t.rejects(attest(await ca.certify('ed25519', { principals: '' })), refused(/no valid principals/))
  await t.rejects(attest(await ca.certify('ed25519', { principals: 'host-1.example.com' })), refused(/not in domain ".example.org"/))
  const second = await ca.certify('ed25519', { principals: 'x.test,host-1.example.org' })
  await t.rejects(attest(second), refused(/not in domain/), 'the first one counts')
  await t.rejects(attest(await ca.certify('ed25519', { principals: 'badexample.org' })), refused(/not in domain/))
  const rsa = await SshCa.create(folder, 'rsa-ca', 'rsa')
  const { attest: believes } = await setUp(t, { cert_authorities: [rsa.publicKey] })
  t.match(await believes(await rsa.certify('ed25519', { signature: 'rsa-sha2-256' })), { canReattest: true })
  await t.rejects(believes(await rsa.certify('ed25519', { signature: 'ssh-rsa' })), refused(/SHA-1/))
})

/** A host's certificate, its fields changed and signed by nobody who knows them. */
async function changed (files: HostFiles, change: (bytes: Buffer) => Buffer): Promise<Buffer> {
  return Buffer.from(JSON.stringify({ Certificate: change(await blobOf(files)).toString('base64') }))
}

void t.test('certificates that were changed, and bytes that are none', { skip }, async t => {
  const { ca, verifier } = await setUp(t)
  const malformed = { code: 'attestation_malformed' }
  const whole = await blobOf(await ca.certify())
  const show = (payload: string) => verifier.verify(Buffer.from(payload), {
    signal, address: undefined, challenge: () => Promise.reject(new Error('it was believed'))
  })
  const shown = (change: (bytes: Buffer) => Buffer) => show(JSON.stringify({ Certificate: change(Buffer.from(whole)).toString('base64') }))
  const replace = (from: string, to: string) => (bytes: Buffer) => Buffer.from(bytes.toString('latin1').replace(from, to), 'latin1')
  await t.rejects(shown(replace('host-1', 'host-2')), { code: 'attestation_refused', message: /signature does not verify/ })
  await t.rejects(shown(replace('host 1', 'host 2')), { code: 'attestation_refused', message: /signature does not verify/ })
  const read = { code: /^attestation_(malformed|refused)$/ }
  for (let length = 0; length < whole.length; length++) {
    await t.rejects(shown(bytes => bytes.subarray(0, length)), malformed, `cut after ${length} bytes`)
  }
  for (let at = 0; at < whole.length; at++) {
    await t.rejects(shown(bytes => bytes.fill(bytes[at]! ^ 0xff, at, at + 1)), read, `byte ${at} changed`)
  }
  await t.rejects(shown(bytes => Buffer.concat([bytes, Buffer.of(0)])), malformed, 'bytes behind the end')
  await t.rejects(shown(() => Buffer.alloc(70_000)), malformed, 'too long')
  await t.rejects(shown(() => Buffer.from(ca.publicKey.split(' ')[1] as string, 'base64')), malformed, 'a key without a certificate')
  await t.rejects(shown(replace('ssh-ed25519-cert', 'ssh-dss25519-cert')), malformed)
  for (const payload of ['', '[]', '{}', '{"Certificate":1}', '{"Certificate":"!"}', '{"Certificate":""}', '{"certificate":"AAAA"}']) {
    await t.rejects(show(payload), malformed, payload)
  }
})

void t.test('critical options, which no host\'s certificate has, are not overlooked', { skip }, async t => {
  const { ca, attest } = await setUp(t)
  const files = await ca.certify('ed25519', { user: ['force-command=/bin/true'] })
  const asHost = (bytes: Buffer) => {
    // The kind stands between the serial number and the key's ID.
    const at = bytes.indexOf(encodeString('host 1')) - 4
    bytes.writeUInt32BE(2, at)
    return bytes
  }
  await t.rejects(attest(files, undefined, await changed(files, asHost)), {
    code: 'attestation_refused', message: /unsupported critical option "force-command"/
  })
})

void t.test('whoever has not the key is refused, whatever was answered before', { skip }, async t => {
  const { ca, attest } = await setUp(t)
  const refused = { code: 'attestation_refused', message: /failed to verify signature/ }
  for (const kind of ['ed25519', 'ecdsa', 'rsa'] as const) {
    const [files, others] = [await ca.certify(kind), await ca.certify(kind)]
    let before: Uint8Array | undefined
    await attest(files, answer => (before = answer))
    await t.rejects(attest(files, () => before as Uint8Array), refused, `${kind}: an answer of before`)
    const stolen = Buffer.from(JSON.stringify({ Certificate: (await blobOf(files)).toString('base64') }))
    await t.rejects(attest(others, undefined, stolen), refused, `${kind}: somebody else's certificate`)
    const altered = (change: (answer: { Nonce: string, Signature: { Format: string, Blob: string, Rest: unknown } }) => void) =>
      attest(files, bytes => {
        const answer = JSON.parse(Buffer.from(bytes).toString()) as Parameters<typeof change>[0]
        change(answer)
        return Buffer.from(JSON.stringify(answer))
      })
    const read = { code: /^attestation_(malformed|refused)$/ }
    await t.rejects(altered(answer => { answer.Signature.Format = 'ssh-dss' }), refused)
    await t.rejects(altered(answer => { answer.Signature.Blob = 'AAAA' }), read)
    await t.rejects(altered(answer => { answer.Nonce = 'AAAA' }), { code: 'attestation_malformed' })
    await t.rejects(altered(answer => { answer.Signature.Rest = 'AAAA' }), { code: 'attestation_malformed' })
    await t.rejects(attest(files, () => Buffer.from('{}')), { code: 'attestation_malformed' })
  }
})

void t.test('agents named by the operator\'s template', { skip }, async t => {
  const template = (agent_path_template: string) => ({ agent_path_template, canonical_domain: 'example.org' })
  const table: Record<string, string> = {
    '/sshpop/{{ .Hostname }}': '/sshpop/host-1',
    '/{{ .PluginName }}/{{ index .ValidPrincipals 0 }}': '/sshpop/host-1.example.org',
    '/hosts/{{ .KeyId | nospace | upper }}/{{ .Serial }}': '/hosts/HOST1/7'
  }
  for (const [source, path] of Object.entries(table)) {
    const { ca, attest } = await setUp(t, template(source))
    t.strictSame(await attest(await ca.certify()), { agentPath: path, selectors: [], canReattest: true }, source)
  }
  const { ca, attest } = await setUp(t, template('/sshpop/{{ .KeyId }}'))
  const escaping = attest(await ca.certify('ed25519', { keyId: '../x509pop/a' }))
  const stays = { code: 'template_not_rendered', message: /\.KeyId holds "\/"/ }
  await t.rejects(escaping, stays, 'what a certificate says stays in its segment')
})

void t.test('what is configured wrongly is named', { skip }, async t => {
  const { folder, ca, start } = await setUp(t)
  const parse = (config: object) => () => sshVerifierPlugin.config.parse(config)
  t.throws(parse({}), /cert_authorities/)
  t.throws(parse({ cert_authorities: [] }), /cert_authorities/)
  t.throws(parse({ cert_authorities: ['ssh-ed25519 AAAA'] }), /CA key|ends in the middle/)
  t.throws(parse({ cert_authorities: ['ssh-dss AAAA'] }), /of a type that is accepted/)
  t.throws(parse({ cert_authorities: [ca.publicKey], agent_path_template: '/{{ .Nothing }}' }), /no field .Nothing/)
  t.throws(parse({ cert_authorities: [ca.publicKey], agent_path_template: 'sshpop/a' }), /begin with a slash/)
  await t.rejects(start({ cert_authorities_path: join(folder, 'none') }), { code: 'file_unusable', message: /none cannot be read: ENOENT/ })
  const [one, other] = [await ca.certify(), await ca.certify('ecdsa')]
  const attestor = (files: object) => sshAttestorPlugin.start(sshAttestorPlugin.config.parse(files), undefined, signal)
  const unusable = (message: RegExp) => ({ code: 'file_unusable', message })
  t.strictSame(sshAttestorPlugin.config.parse({ host_key_path: '' }),
    { keyPath: '/etc/ssh/ssh_host_rsa_key', certificatePath: '/etc/ssh/ssh_host_rsa_key-cert.pub' })
  await t.rejects(attestor({ ...one, host_key_path: other.host_key_path }), unusable(/is not the key of/))
  await t.rejects(attestor({ ...one, host_cert_path: `${one.host_key_path}.pub` }), unusable(/no OpenSSH certificate/))
  const locked = await ca.certify('ed25519', { keyOptions: ['-N', 'secret'] })
  await t.rejects(attestor(locked), unusable(/has a passphrase/))
  await writeFile(one.host_key_path, 'no key')
  await t.rejects(attestor(one), unusable(/no private key/))
})

void t.test('an agent attests by its host\'s certificate, and again', { skip }, async t => {
  const { ca } = await setUp(t)
  const files = await ca.certify('rsa')
  await using server = await startTestServer({ config: {
    plugins: testPlugins({ NodeAttestor: { sshpop: { plugin_data: {
      cert_authorities: [ca.publicKey], agent_path_template: '/hosts/{{ .Hostname }}'
    } } } })
  } })
  const plugins = z.strictObject(pluginSchemas(agentCatalog)).parse({ NodeAttestor: { sshpop: { plugin_data: files } } })
  for (const time of ['first', 'again']) {
    await using _ = await startTestAgent(server, { config: { plugins, joinToken: undefined } })
    const known = async () => (await server.admin.client(agentService).listAgents({})).agents
    await eventually(`the agent, ${time}`, async () => (await known()).length === 1)
    t.match(await known(), [{ id: { path: '/spire/agent/hosts/host-1.example.org' }, attestationType: 'sshpop', canReattest: true }])
  }
})
