import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readInClusterAccess } from '../../src/attestation/kubernetes/api-access.ts'
import { readKubeconfigAccess } from '../../src/attestation/kubernetes/kubeconfig.ts'

const folder = mkdtempSync(join(tmpdir(), 'assay-kubeconfig-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const file = (name: string, content: string) => {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}
const base64 = (text: string) => Buffer.from(text).toString('base64')
const unusable = (message: RegExp) => ({ code: 'kubernetes_unreachable', message })

/** @param user of the current context */
const read = (user: object = {}, cluster: object = { server: 'https://api.test:6443/prefix/' }, rest: object = {}) =>
  readKubeconfigAccess(file('config', JSON.stringify({
    apiVersion: 'v1', kind: 'Config', preferences: {}, 'current-context': 'two',
    contexts: [{ name: 'one', context: { cluster: 'x' } }, { name: 'two', context: { cluster: 'b', user: 'u', namespace: 'n' } }],
    clusters: [{ name: 'a', cluster: { server: 'https://a' } }, { name: 'b', cluster }],
    users: [{ name: 'u', user }],
    ...rest
  })))

void t.test('the current context of a kubeconfig', async t => {
  const nothing = { ca: undefined, serverName: undefined, skipVerify: false, client: undefined, token: undefined }
  t.same(await read(), { ...nothing, server: new URL('https://api.test:6443/prefix/') })
  t.match(await read({ token: 't' }), { token: 't' })
  file('token', 'of-a-file\n')
  t.match(await read({ token: 't', tokenFile: 'token' }), { token: 'of-a-file' }, 'relative to its own folder; the file wins')
  file('ca.pem', 'ca')
  file('cert.pem', 'cert')
  file('key.pem', 'key')
  const server = 'https://api.test'
  const inFiles = { 'client-certificate': 'cert.pem', 'client-key': join(folder, 'key.pem') }
  t.match(await read(inFiles, { server, 'certificate-authority': 'ca.pem' }), {
    ca: 'ca', client: { certificate: 'cert', key: 'key' }
  })
  t.match(await read(
    { 'client-certificate-data': base64('c'), 'client-key-data': base64('k') },
    { server, 'certificate-authority-data': base64('d'), 'tls-server-name': 'other.test', 'insecure-skip-tls-verify': true }
  ), { ca: 'd', client: { certificate: 'c', key: 'k' }, serverName: 'other.test', skipVerify: true })
  t.match(await readKubeconfigAccess(file('yaml', [
    'current-context: c', 'contexts: [{ name: c, context: { cluster: k } }]', 'clusters:', '- name: k',
    '  cluster: { server: https://k.test }'
  ].join('\n'))), { token: undefined }, 'a context without a user')
})

void t.test('a kubeconfig that cannot be used says why, and tells no secrets', async t => {
  await t.rejects(readKubeconfigAccess(join(folder, 'absent')), unusable(/cannot read .*absent: ENOENT/))
  await t.rejects(readKubeconfigAccess(file('broken', 'a: [secret')), unusable(/is no YAML: .*broken:1/))
  await t.rejects(readKubeconfigAccess(file('empty', '')), unusable(/cannot be used/))
  await t.rejects(read({}, { server: 'http://api.test' }), unusable(/names no https:\/\/ server/))
  await t.rejects(read({}, { server: 'https://user:secret@api.test' }), unusable(/names no https:\/\/ server/))
  await t.rejects(read({}, { server: 'https://a', 'proxy-url': 'http://proxy' }), unusable(/proxy-url/))
  await t.rejects(read({}, undefined, { 'current-context': 'three' }), unusable(/has no context "three"/))
  await t.rejects(read({}, undefined, { 'current-context': 'one' }), unusable(/has no cluster "x"/))
  await t.rejects(read({}, undefined, { users: null }), unusable(/has no user "u"/))
  await t.rejects(read({ 'client-certificate-data': base64('c') }), unusable(/without the other/))
  await t.rejects(read({ tokenFile: 'absent' }), unusable(/cannot read .*absent/))
  for (const key of ['exec', 'auth-provider', 'username', 'as']) {
    await t.rejects(read({ [key]: { secret: 'secret' } }), unusable(new RegExp(`authenticates by ${key}, which is not offered`)))
  }
  const told = await read({ token: ['secret'] }).then(() => 'read', (error: Error) => `${error.message}${String(error.cause)}`)
  t.match(told, /users\.0\.user\.token/)
  t.notMatch(told, 'secret')
})

void t.test('the cluster that a process runs in', async t => {
  file('token', 'mounted\n')
  file('ca.crt', 'ca')
  const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' }
  t.same(await readInClusterAccess(env, folder), {
    server: new URL('https://[fd00::1]'), ca: 'ca', serverName: undefined, skipVerify: false, client: undefined, token: 'mounted'
  })
  await t.rejects(readInClusterAccess({}, folder), unusable(/runs in no cluster, and kube_config_file is not set/))
  await t.rejects(readInClusterAccess(env, join(folder, 'absent')), unusable(/cannot read/))
})
