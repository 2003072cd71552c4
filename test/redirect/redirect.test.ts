import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { attestConnection } from '../../src/attestation/socket/attest-connection.ts'
import { openSocketDiagnosis } from '../../src/attestation/socket/socket-diagnosis.ts'
import { createUnixAttestor } from '../../src/attestation/workload/unix/unix-attestor.ts'
import { parseCidr, type RedirectPlan } from '../../src/redirect/redirect-plan.ts'
import { applyRedirect, listRedirects, removeRedirect } from '../../src/redirect/redirect.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import { mayWrite } from '../attestation/real-process.ts'
import { Acceptor, Namespace, needsNamespaces, type Arrival } from '../fakes/namespace.ts'
import { Shell } from '../fakes/shell.ts'

const signal = new AbortController().signal
const root = join(import.meta.dirname, '../..')
/** Folder that comes first on the path, so that `iptables` means its older backend. */
const legacy = join(t.testdir({}), 'legacy')

interface Variant { readonly name: string, readonly tool: 'nft' | 'iptables', readonly path: string, readonly skip: string | false }

const variants: readonly Variant[] = [
  variant('nft', 'nft', undefined, ['nft', '--version']),
  variant('iptables', 'iptables', undefined, ['iptables', '--version']),
  variant('iptables-legacy', 'iptables', legacy, ['iptables-legacy', '-t', 'nat', '-S'])
]

function variant (name: string, tool: 'nft' | 'iptables', folder: string | undefined, probe: [string, ...string[]]): Variant {
  const path = `${folder === undefined ? '' : `${folder}:`}${process.env['PATH']}:/usr/sbin:/sbin`
  const [program, ...words] = probe
  const works = spawnSync(program, words, { stdio: 'ignore', env: { PATH: path } }).status === 0
  return { name, tool, path, skip: needsNamespaces !== false ? needsNamespaces : works ? false : `needs ${name}` }
}

const [nft] = variants as [Variant]

mkdirSync(legacy)
for (const name of ['iptables', 'ip6tables', 'iptables-restore', 'ip6tables-restore']) {
  symlinkSync(`/usr/sbin/${name.replace('tables', 'tables-legacy')}`, join(legacy, name))
}

/** Rules of somebody else, which mark what goes to port 9090 as the proxy's; and how to see them. */
const othersRules = {
  nft: [[
    ['nft', 'add table inet mine'],
    ['nft', 'add chain inet mine out { type filter hook output priority -200; }'],
    ['nft', 'add rule inet mine out tcp dport 9090 meta mark set 1337']
  ], ['nft', 'list', 'table', 'inet', 'mine']],
  iptables: [[
    ['iptables', '-t', 'mangle', '-A', 'OUTPUT', '-p', 'tcp', '--dport', '9090', '-j', 'MARK', '--set-mark', '1337']
  ], ['iptables', '-t', 'mangle', '-S']]
} as const

/** The tools that `applyRedirect` finds are those on the path. */
function putOnPath (path: string): () => void {
  const before = process.env['PATH']
  process.env['PATH'] = path
  return () => { process.env['PATH'] = before }
}

async function connect (shell: Shell, host: string, port: number): Promise<void> {
  await shell.run(`exec 3<>/dev/tcp/${host}/${port}`)
}

/** A socket's life from one port, which no kernel gives by itself: what it is marked with (0: not), and how trying to connect went. */
const fromPort = `
import socket, sys
mark, port, host, to = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
one = socket.socket()
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if mark: one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
one.bind(('', port))
one.settimeout(1)
try: one.connect((host, to)); print('connected')
except OSError: print('failed')
`

async function connectFrom (namespace: Namespace, mark: number, port: number, host: string, to: number): Promise<string> {
  return (await namespace.run('python3', '-c', fromPort, ...[mark, port, host, to].map(String))).trim()
}

/** Of the process in the namespace that is connected from there, by what it connected to. */
async function selectorsOf ({ source }: Arrival, address: string, port: number, netns: string): Promise<string[]> {
  using sockets = openSocketDiagnosis({ netns })
  const attestors = [createUnixAttestor({ discoverWorkloadPath: false, workloadSizeLimit: 0 })]
  const deps = { sockets, attestors, clock: systemClock, log: silentLogger }
  return (await attestConnection(source, { address, port }, deps, signal)).map(formatSelector)
}

for (const { name, tool, path, skip } of variants) {
  void t.test(`a namespace, by ${name}`, { skip }, async t => {
    t.teardown(putOnPath(path))
    await using pair = await Namespace.openPair()
    const { here, there } = pair
    await using proxy = await Acceptor.start(here, [
      ['127.0.0.1', 15_001], ['::1', 15_001], ['0.0.0.0', 15_006], ['::', 15_006], ['0.0.0.0', 15_008], ['127.0.0.1', 8080]
    ])
    await using elsewhere = await Acceptor.start(there, [['0.0.0.0', 8080], ['0.0.0.0', 2222], ['0.0.0.0', 9090]])
    await using workload = await Shell.start({ within: here.enter })
    await using stranger = await Shell.start({ within: there.enter })
    const plan: RedirectPlan = {
      scope: { kind: 'netns', path: here.path }, outboundPort: 15_001, inboundPort: 15_006, tunnelPort: 15_008,
      excludePorts: [2222], excludeCidrs: []
    }

    await connect(workload, '192.0.2.2', 8080)
    t.equal((await elsewhere.next()).port, 8080, 'before: straight there')
    const { tool: version } = await applyRedirect(plan, signal, tool)
    t.match(version, tool === 'nft' ? /^nftables v/ : name === 'iptables-legacy' ? /^iptables v\S+ \(legacy\)$/ : /^iptables v/)

    await connect(workload, '198.51.100.7', 80)
    const arrival = await proxy.next()
    t.equal(arrival.port, 15_001, 'what a workload connects to arrives at the proxy, whether or not there is such an address')
    t.ok((await selectorsOf(arrival, '198.51.100.7', 80, here.path)).includes('unix:uid:0'),
      'the workload\'s socket has the address that it asked for')
    await t.rejects(selectorsOf(arrival, '127.0.0.1', 15_001, here.path), { code: 'connection_unknown' })
    await connect(workload, '2001:db8:7::7', 80)
    t.match(await proxy.next(), { port: 15_001, source: { address: '2001:db8::1' } }, 'IPv6 too')
    await connect(workload, '127.0.0.1', 8080)
    t.equal((await proxy.next()).port, 8080, 'loopback is left alone')
    await connect(workload, '192.0.2.2', 2222)
    t.equal((await elsewhere.next()).port, 2222, 'and so is an excluded port')
    await t.rejects(connect(workload, '127.0.0.1', 15_001), /refused/i, 'nobody reaches the proxy\'s port without having been redirected')
    await t.rejects(connect(workload, '::1', 15_001), /refused/i)

    await connect(stranger, '192.0.2.1', 80)
    t.equal((await proxy.next()).port, 15_006, 'what others connect to arrives at the proxy')
    await connect(stranger, '2001:db8::1', 80)
    t.equal((await proxy.next()).port, 15_006)
    await connect(stranger, '192.0.2.1', 15_008)
    t.equal((await proxy.next()).port, 15_008, 'other nodes\' proxies connect as ever')

    const [redirection, ...more] = await listRedirects(here.path, signal)
    t.match(redirection, { tool: version, scope: 'namespace', outboundPort: 15_001, inboundPort: 15_006, outbound: 2, inbound: 2 })
    t.ok(redirection!.refused >= 2)
    t.strictSame(more, [])

    t.equal(await connectFrom(here, 1_337, 19_001, '198.51.100.7', 80), 'failed', 'the proxy gets no answer')
    t.equal(await connectFrom(here, 0, 19_001, '198.51.100.7', 80), 'connected')
    t.equal((await proxy.next()).port, 15_001, 'a workload that gets its port next is not taken for it')
    t.equal(await connectFrom(here, 1_337, 19_002, '192.0.2.2', 8080), 'connected', 'the proxy is answered as ever')
    t.equal((await elsewhere.next()).port, 8080)

    await applyRedirect({ ...plan, excludePorts: [2222, 81] }, signal, tool)
    t.equal(await connectFrom(here, 0, 19_003, '198.51.100.7', 81), 'failed')
    await applyRedirect(plan, signal, tool)
    t.equal(await connectFrom(here, 0, 19_003, '198.51.100.7', 81), 'failed', 'what the kernel knows as not redirected goes nowhere')
    t.ok((await listRedirects(here.path, signal))[0]!.refused >= 1, 'and is counted')
    t.equal(await connectFrom(here, 0, 19_004, '198.51.100.7', 81), 'connected', 'the next is')
    t.equal((await proxy.next()).port, 15_001)

    await applyRedirect({ ...plan, outboundPort: 15_002, excludeCidrs: ['192.0.2.0/24', '2001:db8::/32'].map(parseCidr) }, signal, tool)
    t.match(await listRedirects(here.path, signal), [{ outboundPort: 15_002, outbound: 0 }], 'applied again: replaced, not added')
    t.equal((await listRedirects(here.path, signal)).length, 1)
    await connect(workload, '192.0.2.2', 8080)
    t.equal((await elsewhere.next()).port, 8080, 'an excluded range')
    await t.rejects(connect(workload, '198.51.100.7', 80), /refused/i, 'without a proxy there is no way out')

    await applyRedirect(plan, signal, tool)
    const [others, show] = othersRules[tool]
    for (const words of others) await here.run(...words)
    await connect(workload, '192.0.2.2', 9090)
    t.equal((await elsewhere.next()).port, 9090, 'what the proxy marked is not sent back to it')

    if (tool === 'iptables' && nft.skip === false) {
      await applyRedirect(plan, signal)
      t.match(await listRedirects(here.path, signal), [{ tool: /^nftables/ }], 'nftables takes over')
      t.equal((await listRedirects(here.path, signal)).length, 1, 'and what the other tool wrote is gone')
    }
    t.equal(await removeRedirect(plan.scope, signal), true)
    await connect(workload, '192.0.2.2', 8080)
    t.equal((await elsewhere.next()).port, 8080, 'after: straight there again')
    t.strictSame(await listRedirects(here.path, signal), [])
    t.equal(await removeRedirect(plan.scope, signal), false, 'nothing is left to remove')
    t.match(await here.run(...show), /dport 9090.* 0x0*539/, 'others\' rules are as they were')
  })
}

/** The command line, in a namespace that stands for a host. */
async function assay (host: Namespace, ...words: string[]): Promise<string> {
  return await host.run(process.execPath, join(root, 'src/cli/main.ts'), 'redirect', ...words)
}

void t.test('a user of a host', { skip: nft.skip }, async t => {
  await using pair = await Namespace.openPair()
  const { here, there } = pair
  await using proxy = await Acceptor.start(here, [['127.0.0.1', 15_101], ['0.0.0.0', 8080]])
  await using elsewhere = await Acceptor.start(there, [['0.0.0.0', 8080]])
  const asUser = (uid: number) => [...here.enter, 'setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
  await using alice = await Shell.start({ within: asUser(4711) })
  await using bob = await Shell.start({ within: asUser(4712) })
  t.match(await assay(here, 'apply', '-uid', '4711', '-outbound-port', '15101'), /^Redirected : uid 4711\nOutbound {3}: to port 15101\nBy/)
  t.equal(await assay(here, 'list').then(text => text.split('\n').length), 3)

  await connect(alice, '192.0.2.2', 8080)
  const arrival = await proxy.next()
  t.equal(arrival.port, 15_101)
  t.strictSame(await selectorsOf(arrival, '192.0.2.2', 8080, here.path), ['unix:gid:4711', 'unix:uid:4711'])
  await connect(bob, '192.0.2.2', 8080)
  t.equal((await elsewhere.next()).port, 8080, 'others are left alone')
  await t.rejects(connect(bob, '127.0.0.1', 15_101), /refused/i, 'and cannot pass for the user by connecting to the port')
  await using stranger = await Shell.start({ within: there.enter })
  await connect(stranger, '192.0.2.1', 8080)
  t.equal((await proxy.next()).port, 8080, 'what others connect to is left alone')
  const json = JSON.parse(await assay(here, 'list', '-output', 'json')) as unknown[]
  t.match(json, [{ scope: 'uid 4711', outbound_port: 15_101, outbound: 1, refused: Number }])
  t.equal(await assay(here, 'remove', '-uid', '4711'), 'removed\n')
  t.equal(await assay(here, 'remove', '-uid', '4711'), 'nothing was redirected\n')
  t.equal(await assay(here, 'list'), 'nothing is redirected\n')
})

const groups = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find(folder =>
  existsSync(join(folder, 'cgroup.controllers')) && mayWrite(join(folder, 'cgroup.procs')))

const needsGroups = groups === undefined ? 'needs control groups of version 2 that it may make' : false

void t.test('a control group of a host', { skip: nft.skip || needsGroups }, async t => {
  await using pair = await Namespace.openPair()
  const { here, there } = pair
  // Systemd writes `-` in its units' names so.
  const path = `/assay\\x2dtest@${process.pid}`
  const folder = `${groups}${path}`
  mkdirSync(folder)
  t.teardown(() => rmdirSync(folder))
  await using proxy = await Acceptor.start(here, [['127.0.0.1', 15_001]])
  await using elsewhere = await Acceptor.start(there, [['0.0.0.0', 8080]])
  {
    await using inside = await Shell.start({ within: here.enter })
    await using outside = await Shell.start({ within: here.enter })
    writeFileSync(`${folder}/cgroup.procs`, String(inside.pid))
    await assay(here, 'apply', '-cgroup', path)
    await connect(inside, '192.0.2.2', 8080)
    t.equal((await proxy.next()).port, 15_001)
    await connect(outside, '192.0.2.2', 8080)
    t.equal((await elsewhere.next()).port, 8080)
    t.ok((await assay(here, 'list')).includes(`cgroup ${path} `))
    t.equal(await assay(here, 'remove', '-cgroup', folder), 'removed\n', 'named by its folder as well')
  }
})

void t.test('what is refused before anything is changed', { skip: needsNamespaces }, async t => {
  const plan = { outboundPort: 15_001, excludePorts: [], excludeCidrs: [] }
  const apply = (path: string) => applyRedirect({ ...plan, scope: { kind: 'netns', path } }, signal)
  await t.rejects(apply('/proc/self/ns/net'), { code: 'argument_invalid', message: /namespace of this host/ })
  await t.rejects(apply('/proc/self/ns/mnt'), { code: 'argument_invalid', message: /no network namespace/ })
  await t.rejects(apply('/absent'), { code: 'file_unusable' })
  await using namespace = await Namespace.open()
  const stopped = AbortSignal.abort(new Error('stopped'))
  await t.rejects(applyRedirect({ ...plan, scope: { kind: 'netns', path: namespace.path } }, stopped), { message: 'stopped' })
})

void t.test('without rights it says so', { skip: nft.skip }, async t => {
  await using namespace = await Namespace.open()
  const [program, ...before] = namespace.enter
  const { status, stderr } = spawnSync(program, [
    ...before, 'setpriv', '--bounding-set=-all', '--inh-caps=-all', process.execPath, join(root, 'src/cli/main.ts'),
    'redirect', 'apply', '-uid', '4711', '-output', 'json'
  ], { encoding: 'utf8' })
  t.equal(status, 1)
  t.match(JSON.parse(stderr), { error: { code: 'redirect_unavailable', message: /needs root, or CAP_NET_ADMIN/ } })
  t.equal(await namespace.run('nft', 'list', 'ruleset'), '')
})
