import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createDockerAttestor, type DockerAttestorConfig } from '../../src/attestation/workload/docker/docker-attestor.ts'
import { dockerPlugin } from '../../src/attestation/workload/docker/docker-plugin.ts'
import { systemClock, type Clock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import { eventually } from '../fakes/eventually.ts'
import { ContainerGroup, groupsMissing } from '../fakes/container-group.ts'
import { FakeDocker, type FakeContainer } from '../fakes/docker.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { pin, startProcess } from './real-process.ts'

const id = '9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961'
const inner = '09bc3d7ade839efec32b6bec4ec79d099027a668ddba043083ec21d3c3b8f1e6'
const imageId = 'sha256:bf862e5f5eca0a73e7e538224578c5cf867ce2be91b5eaed22afc153c00363eb'
const failed = { code: 'workload_attestation_failed' }
const signal = AbortSignal.timeout(120_000)
const processOf = (pid: number) => ({ pid, uid: 0, gid: 0, check () {} })
/** The first process of each container. */
const init = 7
const web: FakeContainer = {
  pid: init, image: 'docker.io/library/web:1', imageId, labels: { 'com.example.name': 'web', empty: '' }, env: ['PATH=/bin', 'EMPTY=']
}
const ofWeb = [
  'docker:label:com.example.name:web', 'docker:label:empty:', 'docker:env:PATH=/bin', 'docker:env:EMPTY=',
  'docker:image_id:docker.io/library/web:1', `docker:image_config_digest:${imageId}`
]

function newFolder (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'assay-docker-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return folder
}

/** Waits nowhere, and remembers how long it should have. */
function hastyClock (): Pick<Clock, 'sleep'> & { readonly sleptMs: number[] } {
  const sleptMs: number[] = []
  return { sleptMs, sleep: async ms => { sleptMs.push(ms) } }
}

interface Setting {
  /** Per PID the lines of its control groups; of version 2 unless they begin with a number. */
  readonly groups?: Readonly<Record<number, string>>
  readonly config?: Partial<DockerAttestorConfig>
}

/** An engine that knows the container `web`, whose first process is in group `/docker/<id>` unless the test says otherwise. */
async function engineOf (t: Test, { groups = {}, config = {} }: Setting = {}) {
  const folder = newFolder(t)
  const proc = join(folder, 'proc')
  for (const [pid, text] of Object.entries({ [init]: `/docker/${id}`, 1: '/system.slice/sshd.service', 2: `/docker/${id}`, ...groups })) {
    mkdirSync(join(proc, pid), { recursive: true })
    writeFileSync(join(proc, pid, 'cgroup'), /^\d/.test(text) ? text : `0::${text}\n`)
  }
  const docker = await FakeDocker.listen(join(folder, 'docker.sock'))
  t.teardown(() => docker[Symbol.asyncDispose]())
  docker.containers.set(id, web)
  docker.images.add(imageId)
  const clock = hastyClock()
  const attestor = createDockerAttestor({
    sockets: { docker: join(folder, 'docker.sock'), podman: join(folder, 'podman.sock'), podmanOfUser: undefined },
    apiVersion: undefined, matcher: undefined, logPlaces: false, ...config
  }, { proc, clock, log: silentLogger })
  t.teardown(() => attestor[Symbol.asyncDispose]())
  return { folder, docker, clock, attest: async (pid: number) => (await attestor.attest(processOf(pid), signal)).map(formatSelector) }
}

void t.test('all that SPIRE tells of a container', async t => {
  const { docker, attest } = await engineOf(t)
  t.strictSame(await attest(2), ofWeb)
  t.strictSame(docker.asked, ['/_ping', `/v1.47/containers/${id}/json`, `/v1.47/images/${encodeURIComponent(imageId)}/json`])
  t.strictSame(await attest(1), [], 'a process of no container has none, and nobody is asked')
  t.equal(docker.asked.length, 3)
  await t.rejects(attest(99), failed, 'one whose groups cannot be read is not such a process')
  docker.containers.set(id, { pid: init, image: '', labels: null, env: null })
  t.strictSame(await attest(2), [], 'a container of which there is nothing to tell')
  docker.containers.set(id, { ...web, imageId: 'sha256:removed' })
  t.strictSame(await attest(2), ofWeb.slice(0, -1), 'of an image that was removed there is no digest')
  docker.containers.set(id, { ...web, imageId: '' })
  docker.tags.set('docker.io/library/web:1', 'sha256:now')
  t.strictSame(await attest(2), [...ofWeb.slice(0, -1), 'docker:image_config_digest:sha256:now'], 'an engine that tells of no image ID')
})

void t.test('the digest is that of the image which runs, wherever its name leads now', async t => {
  const { docker, attest } = await engineOf(t)
  docker.images.add('sha256:newer')
  docker.tags.set('docker.io/library/web:1', 'sha256:newer')
  t.ok((await attest(2)).includes(`docker:image_config_digest:${imageId}`))
})

void t.test('control groups of version 1 and 2, by systemd and without', async t => {
  const paths = [
    `/docker/${id}`, `/system.slice/docker-${id}.scope`, `/../${id}`, `/system.slice/docker-${id}.scope/init.scope`,
    `12:pids:/docker/${id}\n3:cpu,cpuacct:/docker/${id}\n1:name=systemd:/docker/${id}\n0::/\n`
  ]
  for (const path of paths) {
    const { attest } = await engineOf(t, { groups: { [init]: path, 2: path } })
    t.strictSame(await attest(2), ofWeb, path)
  }
  const contradictory = await engineOf(t, { groups: { 2: `2:pids:/docker/${id}\n1:cpu:/docker/${inner}\n` } })
  await t.rejects(contradictory.attest(2), { ...failed, message: /name different containers/ })
})

void t.test('a group with a container\'s name is not that container', async t => {
  const forged = `/user.slice/user-1000.slice/user@1000.service/app.slice/docker-${id}.scope`
  const { docker, attest } = await engineOf(t, {
    groups: { 2: forged, 3: `/docker/${id}/docker/${inner}`, 4: `/docker/${inner}`, 5: `/docker/${id}/system.slice/cron.service` }
  })
  await t.rejects(attest(2), { ...failed, message: /which is not that container's/ })
  docker.containers.set(inner, { ...web, labels: { 'com.example.name': 'other' } })
  t.strictSame(await attest(3), ofWeb, 'who is in a container may name groups within as it likes: the outermost counts')
  await t.rejects(attest(4), failed, 'the first process of that container is elsewhere')
  t.strictSame(await attest(5), ofWeb, 'a service of a container that has an init system')
  docker.containers.set(id, { ...web, pid: 0 })
  await t.rejects(attest(5), failed, 'a container that has ended has no processes')
  docker.containers.set(id, { ...web, pid: 4711 })
  await t.rejects(attest(5), failed, 'nor has one whose first process is gone')
  docker.containers.delete(id)
  docker.containers.set(inner, web)
  const nested = await engineOf(t, { groups: { [init]: `/docker/${inner}/docker/${id}`, 2: `/docker/${inner}/docker/${id}` } })
  t.strictSame(await nested.attest(2), ofWeb, 'an engine within a container, which does not know that one')
})

void t.test('faults of an engine are tried again as SPIRE does, and then refused', async t => {
  const { docker, clock, attest } = await engineOf(t)
  const faults = {
    'it fails': { status: 500, body: '{"message":"busy"}' },
    'it hangs up': 'hang up',
    'malformed JSON': { status: 200, body: '{"Id":' },
    'no object': { status: 200, body: '[]' },
    'a repeated name': { status: 200, body: '{"Config":{},"Config":{}}' },
    'no configuration': { status: 200, body: '{"State":{"Pid":7},"Config":null}' },
    'labels that are none': { status: 200, body: '{"State":{"Pid":7},"Config":{"Labels":[]}}' },
    'a label that is no text': { status: 200, body: '{"State":{"Pid":7},"Config":{"Labels":{"a":1}}}' },
    'an environment that is none': { status: 200, body: '{"State":{"Pid":7},"Config":{"Env":"A=1"}}' },
    'a giant answer': { status: 200, body: `{"Id":"${'x'.repeat(5 * 1024 * 1024)}"}` }
  } as const
  for (const [what, fault] of Object.entries(faults)) {
    docker.answers.push(fault)
    t.strictSame(await attest(2), ofWeb, `${what}, once`)
    docker.answers.push(fault, fault, fault, fault)
    await t.rejects(attest(2), failed, `${what}, four times`)
    t.equal(docker.answers.length, 0, 'not asked more often')
    t.strictSame(clock.sleptMs.splice(0), [100, 100, 200, 400], 'SPIRE\'s waits')
  }
  docker.containers.delete(id)
  await t.rejects(attest(2), { ...failed, message: /knows no container 9bca8d63d5fa/ }, 'a container that is gone')
  docker.containers.set(id, web)
  const secret = { status: 200, body: '{"Config":{"Env":["SECRET=1"]},"State":"SECRET"}' }
  docker.answers.push(secret, secret, secret, secret)
  await attest(2).then(() => t.fail('was not refused'), error => t.notMatch(JSON.stringify([error, (error as Error).message]), /SECRET/))
})

void t.test('verbose_container_locator_logs', async t => {
  const { folder } = await engineOf(t)
  const { log, lines } = capturedLog()
  const sockets = { docker: join(folder, 'docker.sock'), podman: '/absent', podmanOfUser: undefined }
  await using attestor = createDockerAttestor({ sockets, apiVersion: undefined, matcher: undefined, logPlaces: true }, {
    proc: join(folder, 'proc'), clock: hastyClock(), log
  })
  await attestor.attest(processOf(1), signal)
  t.match(lines, [{ pid: 1, groups: ['/system.slice/sshd.service'] }])
})

void t.test('no socket, and an engine that does not answer', async t => {
  const absent = await engineOf(t, { config: { sockets: { docker: '/nonexistent/docker.sock', podman: '/x', podmanOfUser: undefined } } })
  await t.rejects(absent.attest(2), { ...failed, message: /\/nonexistent\/docker\.sock cannot be asked: .*ENOENT/ })
  t.strictSame(absent.clock.sleptMs, [100, 200, 400])
  const slow = await engineOf(t, { config: { timeoutMs: 50 } })
  const gate = Promise.withResolvers<void>()
  slow.docker.gate = gate.promise
  await t.rejects(slow.attest(2), { ...failed, message: /cannot be asked: .*timeout/ })
  gate.resolve()
  // A busy machine may take longer than 50 ms for an answer, and for each of four.
  let found: readonly string[] | undefined
  await eventually('once it answers all is well', async () => {
    found = await slow.attest(2).catch((error: { code?: string }) => {
      if (error.code !== failed.code) throw error
      return undefined
    })
    return found !== undefined
  }, 60_000)
  t.strictSame(found, ofWeb, 'once it answers all is well')
  const { folder, docker } = await engineOf(t)
  docker.gate = new Promise(() => {})
  const attestor = createDockerAttestor({
    sockets: { docker: join(folder, 'docker.sock'), podman: '/x', podmanOfUser: undefined }, apiVersion: undefined, matcher: undefined,
    logPlaces: false
  }, { proc: join(folder, 'proc'), clock: systemClock, log: silentLogger })
  t.teardown(() => attestor[Symbol.asyncDispose]())
  const stop = new AbortController()
  const attesting = attestor.attest(processOf(2), stop.signal)
  stop.abort(new Error('the caller went'))
  await t.rejects(attesting, { message: 'the caller went' }, 'nobody waits for a caller who went')
})

void t.test('the version of the API', async t => {
  const { docker, attest } = await engineOf(t)
  const pathAfter = async () => {
    docker.asked.splice(0)
    await attest(2)
    return docker.asked
  }
  await attest(2)
  t.match((await pathAfter())[0], /^\/v1\.47\//, 'settled once')
  docker.apiVersion = '1.40'
  t.match(await pathAfter(), [/^\/v1\.47\//, '/_ping', /^\/v1\.40\//], 'an older daemon after an upgrade that was taken back')
  for (const [told, spoken] of [['1.24', '1.24'], ['1.99', '1.51']] as const) {
    const other = await engineOf(t)
    other.docker.apiVersion = told
    await other.attest(2)
    t.ok(other.docker.asked[1]?.startsWith(`/v${spoken}/`), `${told} is spoken as ${spoken}`)
  }
  for (const told of ['1.23', 'new', undefined]) {
    const other = await engineOf(t)
    other.docker.apiVersion = told
    await t.rejects(other.attest(2), failed, `version ${told}`)
  }
  const fixed = await engineOf(t, { config: { apiVersion: '1.41' } })
  await fixed.attest(2)
  t.match(fixed.docker.asked[0], /^\/v1\.41\//, 'docker_version')
})

void t.test('Podman\'s containers are asked for at Podman', async t => {
  const rootful = `/machine.slice/libpod-${id}.scope/container`
  const ofUser = `/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-${id}.scope`
  const groups = { [init]: rootful, 2: rootful, 3: `/machine.slice/libpod-conmon-${id}.scope`, 8: ofUser, 9: ofUser }
  const { folder, attest, docker } = await engineOf(t, { groups })
  const podman = await FakeDocker.listen(join(folder, 'podman.sock'))
  t.teardown(() => podman[Symbol.asyncDispose]())
  podman.containers.set(id, { ...web, labels: { by: 'podman' } })
  t.ok((await attest(2)).includes('docker:label:by:podman'))
  t.equal(docker.asked.length, 0)
  t.strictSame(await attest(3), [], 'conmon watches the container, from outside')
  await t.rejects(attest(9), { ...failed, message: /set podman_socket_path_template/ }, 'a user\'s Podman says what that user likes')

  const template = await engineOf(t, {
    groups, config: { sockets: { docker: '/x', podman: '/x', podmanOfUser: join(folder, '%%%d.sock') } }
  })
  const own = await FakeDocker.listen(join(folder, '%1000.sock'))
  t.teardown(() => own[Symbol.asyncDispose]())
  own.containers.set(id, { ...web, pid: 8, labels: { by: 'user' } })
  t.ok((await template.attest(9)).includes('docker:label:by:user'))
})

void t.test('SPIRE\'s keys', async t => {
  const read = (raw: object) => dockerPlugin.config.parse(raw)
  t.match(read({}), {
    sockets: { docker: '/var/run/docker.sock', podman: '/run/podman/podman.sock', podmanOfUser: undefined },
    apiVersion: undefined, logPlaces: false
  })
  t.match(read({
    docker_socket_path: 'unix:///a.sock', podman_socket_path: 'unix:///b.sock', podman_socket_path_template: 'unix:///c/%d.sock',
    docker_version: '1.41', use_new_container_locator: true, verbose_container_locator_logs: true
  }), { sockets: { docker: '/a.sock', podman: '/b.sock', podmanOfUser: '/c/%d.sock' }, apiVersion: '1.41', logPlaces: true })
  const patterns = { use_new_container_locator: false, container_id_cgroup_matchers: ['/docker/<id>', '/my.slice/*/<id>/*'] }
  const { matcher } = read(patterns)
  const refused: Array<[object, RegExp]> = [
    [{ docker_socket_path: 'tcp://127.0.0.1:2375' }, /must be unix:/],
    [{ docker_socket_path: '/var/run/docker.sock' }, /must be unix:/],
    [{ podman_socket_path_template: 'unix:///run/podman.sock' }, /exactly once/],
    [{ podman_socket_path_template: 'unix:///run/%d/%d.sock' }, /exactly once/],
    [{ podman_socket_path_template: 'unix:///run/%s/%d.sock' }, /must have % only/],
    [{ podman_socket_path_template: 'unix:///run/%d/%' }, /must have % only/],
    [{ docker_version: 'newest' }, /must be a version/],
    [{ sigstore: {} }, /is not offered: signatures/],
    [{ docker_host: 'npipe:////./pipe/docker_engine' }, /Windows/],
    [{ ...patterns, use_new_container_locator: true }, /must be false/],
    [{ container_id_cgroup_matchers: ['/docker/<id>'] }, /must be false/],
    [{ ...patterns, container_id_cgroup_matchers: ['/docker/*'] }, /exactly once/],
    [{ ...patterns, container_id_cgroup_matchers: ['/<id>/<id>'] }, /exactly once/],
    [{ ...patterns, container_id_cgroup_matchers: ['/docker/x<id>'] }, /exactly once/],
    [{ ...patterns, container_id_cgroup_matchers: ['/a/b/<id>', '/*/b/<id>'] }, /ambiguous/],
    [{ unknown: 1 }, /unknown/]
  ]
  for (const [raw, message] of refused) t.throws(() => read(raw), { message }, JSON.stringify(raw))
  t.equal(matcher?.('/docker/abc'), 'abc')
  t.equal(matcher?.('/my.slice/x/abc/y'), 'abc')
  for (const path of ['/docker/abc/d', '/docker', '/myxslice/x/abc/y', '/']) t.equal(matcher?.(path), undefined, path)
  const groups = { [init]: '/docker/web-1', 2: '/docker/web-1', 3: '/docker/' }
  const { attest, docker } = await engineOf(t, { config: { matcher }, groups })
  docker.containers.set('web-1', web)
  t.strictSame(await attest(2), ofWeb, 'an ID by matchers')
  await t.rejects(attest(3), { ...failed, message: /empty container ID/ })
})

void t.test('a real process in a real control group', { skip: groupsMissing() }, async t => {
  const folder = newFolder(t)
  await using docker = await FakeDocker.listen(join(folder, 'docker.sock'))
  using group = new ContainerGroup(`/docker/${id}`)
  await using first = await startProcess(['/bin/sleep', '600'], realpathSync('/bin/sleep'))
  group.add(first.pid)
  docker.containers.set(id, { ...web, pid: first.pid })
  docker.images.add(imageId)
  const config = dockerPlugin.config.parse({ docker_socket_path: `unix://${folder}/docker.sock` })
  await using attestor = await dockerPlugin.start(config, { clock: systemClock, log: silentLogger }, signal)
  t.strictSame((await attestor.attest(pin(first.pid), signal)).map(formatSelector), ofWeb)
  t.strictSame(await attestor.attest(pin(process.pid), signal), [])
})
