import t from 'tap'
import { commandTree } from '../../src/cli/command-tree.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { bind } from '../../src/rpc/server.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { clusterService, type AuthorityInit } from '../../src/wire/generated/cluster.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { workloadService, type X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { securityHeader, startTestAgent } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent } from '../fakes/following-agent.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { serveServices } from '../fakes/serve-services.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { createTestTerminal } from '../fakes/terminal.ts'

interface Rotation {
  readonly done: boolean
  readonly active?: string
  readonly resume?: string
  readonly leaving: readonly string[]
  readonly warnings: readonly string[]
  readonly below?: readonly string[]
  readonly steps: readonly { readonly verb: string, readonly convergence: { readonly consumers: readonly unknown[] } }[]
}

const socketOf = ({ config }: TestServer) => ['-socketPath', config.socketPath]
const rotateIn = (server: TestServer, ...words: string[]) => runAssay(['rotate', ...words, ...socketOf(server)])
const verbsOf = ({ steps }: Rotation) => steps.map(({ verb }) => verb).join(' ')

async function rotateJson (server: TestServer, ...words: string[]): Promise<Rotation & { code: number, stderr: string }> {
  const { code, stdout, stderr } = await rotateIn(server, ...words, '-output', 'json')
  return { ...JSON.parse(stdout) as Rotation, code, stderr }
}

async function authoritiesOf (server: TestServer) {
  const { authorities } = await server.admin.client(clusterService).getStatus({})
  const { x509Authorities, jwtAuthorities } = await server.admin.client(bundleService).getBundle({})
  const of = (wanted: string) => authorities.flatMap(({ kind, state, authorityId }) => kind === wanted ? [[state, authorityId]] : [])
  return { x509: of('x509'), jwt: of('jwt'), published: [x509Authorities.length, jwtAuthorities.length] }
}

const quick = ['-wait-timeout', '300ms']

void t.test('a stolen authority is replaced step by step, each once every agent has the one before', async t => {
  for (const kind of ['x509', 'jwt'] as const) {
    await using server = await startTestServer()
    await using one = await startFollowingAgent(server)
    await using two = await startFollowingAgent(server)
    const [[, stolen]] = (await authoritiesOf(server))[kind] as [string[]]
    const { code, stdout, stderr } = await rotateIn(server, '-compromised', kind)
    const { [kind]: left, published } = await authoritiesOf(server)
    t.equal(left.length, 1)
    const [, fresh] = left[0] as [string, string]
    t.not(fresh, stolen)
    t.equal(code, 0)
    t.equal(stderr, '')
    const name = kind === 'x509' ? 'X.509' : 'JWT'
    const all = '2 of 2 live agents have it after [\\dms]+'
    t.match(stdout, new RegExp([
      `^${name} authorities that must go: ${stolen}`, `prepare   ${fresh}  ${all}`, `activate  ${fresh}  ${all}`,
      `taint     ${stolen}  ${all}`, `revoke    ${stolen}  ${all}`,
      `Done in [\\dms]+: ${name} authority ${fresh} signs; what had to go is in no bundle any more\n$`
    ].join('\n')), kind)
    t.strictSame(published, [1, 1])
    for (const agent of [one, two]) {
      const bundles = agent.told.flatMap(({ bundles }) => bundles).map(({ x509Authorities, jwtAuthorities }) => kind === 'x509'
        ? x509Authorities.map(({ tainted }) => tainted)
        : jwtAuthorities.map(({ tainted }) => tainted))
      t.strictSame(bundles.at(-1), [false], 'in the end the agents hold the new one alone')
      t.ok(bundles.some(taints => taints.length === 2 && taints.includes(true)), 'and had both while one was tainted')
    }
  }
})

void t.test('what was old or prepared before goes as well: a thief of one key had the others within reach', async t => {
  await using server = await startTestServer()
  await rotateIn(server, '-compromised', 'x509', '-drill')
  await runAssay(['localauthority', 'x509', 'prepare', ...socketOf(server)])
  const before = (await authoritiesOf(server)).x509.map(([, id]) => id)
  t.equal(before.length, 3)
  const rotation = await rotateJson(server, '-compromised', 'x509')
  t.equal(rotation.code, 0)
  t.equal(verbsOf(rotation), 'taint revoke prepare activate taint revoke')
  const { x509, published } = await authoritiesOf(server)
  t.strictSame(x509, [['active', rotation.active]])
  t.notOk(before.includes(rotation.active))
  t.strictSame(published, [1, 1])
  t.strictSame(rotation.warnings, [])
})

void t.test('an agent that lags behind stops it; run again, it goes on where it was', async t => {
  await using server = await startTestServer()
  await using agent = await startFollowingAgent(server)
  agent.mute()
  const stopped = await rotateIn(server, '-compromised', 'x509', ...quick)
  t.equal(stopped.code, 3)
  const [, resume = ''] = /^To go on: assay (rotate .*)\n/.exec(stopped.stderr) ?? []
  t.match(stopped.stderr, new RegExp(`Error: after 300ms, 1 of 1 live agents does not have the change: ${agent.spiffeId} \\(waiting\\)\n`))
  const prepared = (await authoritiesOf(server)).x509
  t.match(prepared, [['active'], ['prepared']], 'what was done stays')
  const again = await rotateJson(server, ...resume.split(' ').slice(1), ...quick)
  t.match(again, { code: 3, done: false, steps: [], resume: `assay ${resume}`, stderr: /"code":"not_converged"/ }, 'not a step further')
  agent.unmute()
  const resumed = await rotateJson(server, ...resume.split(' ').slice(1))
  t.match(resumed, { code: 0, done: true, active: prepared[1]?.[1] })
  t.equal(verbsOf(resumed), 'activate taint revoke', 'nothing is prepared once more')
  const idle = await rotateIn(server, ...resume.split(' ').slice(1))
  t.match(idle, { code: 1, stderr: /code: authority_unknown/ }, 'and then nothing is left to do')
})

void t.test('stopped by Ctrl-C between taint and revoke, it goes on from there', async t => {
  await using server = await startTestServer()
  await using agent = await startFollowingAgent(server)
  const [[, stolen = '']] = (await authoritiesOf(server)).x509 as [string[]]
  agent.muteWhen(({ bundles }) => bundles.some(({ x509Authorities }) => x509Authorities.some(({ tainted }) => tainted)))
  const terminal = createTestTerminal({ interactive: true })
  const code = runCli(commandTree, ['rotate', '-compromised', 'x509', ...socketOf(server)], terminal)
  await eventually('the stolen one is tainted, and not everybody knows', () =>
    terminal.stdout.includes('\nactivate ') && (terminal.stderr.split('\r').at(-1) ?? '').includes('waiting for'))
  terminal.stop()
  t.equal(await code, 130)
  t.match((await authoritiesOf(server)).x509, [['active'], ['tainted', stolen]])
  t.match(terminal.stderr, new RegExp(`To go on: assay rotate -compromised x509 -authorityID ${stolen}\n$`))
  agent.unmute()
  const resumed = await rotateJson(server, '-compromised', 'x509', '-authorityID', stolen)
  t.equal(verbsOf(resumed), 'revoke')
})

void t.test('a drill taints and revokes nothing', async t => {
  await using server = await startTestServer()
  await using agent = await startFollowingAgent(server)
  const before = await authoritiesOf(server)
  const { code, stdout } = await rotateIn(server, '-compromised', 'jwt', '-drill')
  t.equal(code, 0)
  t.match(stdout, /^Drill: a new JWT authority takes over; nothing is tainted or revoked\nprepare .*\nactivate .*\nDone in .* stays valid/)
  const after = await authoritiesOf(server)
  t.match(after.jwt, [['active'], ['old', before.jwt[0]?.[1]]])
  t.strictSame(after.x509, before.x509)
  t.strictSame(after.published, [1, 2])
  t.notOk(agent.told.some(({ bundles }) => bundles.some(({ jwtAuthorities }) => jwtAuthorities.some(({ tainted }) => tainted))))
  await runAssay(['localauthority', 'jwt', 'taint', '-authorityID', before.jwt[0]?.[1] ?? '', ...socketOf(server)])
  t.match(await rotateIn(server, '-compromised', 'jwt', '-drill'), { code: 1, stderr: /is tainted: a drill would put it out of reach/ })
})

void t.test('-force goes on, and names who breaks', async t => {
  await using server = await startTestServer()
  await using agent = await startFollowingAgent(server)
  agent.mute()
  const forced = await rotateIn(server, '-compromised', 'x509', '-force', ...quick)
  t.match(forced, { code: 0, stderr: `Warning: may break: ${agent.spiffeId} (waiting)\n`, stdout: /\nrevoke .* 0 of 1 live agent have it/ })
  const json = await rotateJson(server, '-compromised', 'x509', '-force', ...quick)
  t.match(json, { code: 0, done: true, steps: [{ convergence: { converged: false } }, {}, {}, { breaks: [{ agent_id: agent.spiffeId }] }] })
})

void t.test('servers below cannot be waited for: it stops before what breaks them, by name, until somebody has looked', async t => {
  await using server = await startTestServer()
  await using agent = await startFollowingAgent(server)
  for (const path of ['/cluster-b', '/cluster-a']) {
    t.match(await runAssay(['entry', 'create', '-downstream', '-spiffeID', `spiffe://example.org${path}`, '-parentID', agent.spiffeId,
      '-selector', 'unix:uid:1', ...socketOf(server)]), { code: 0 })
  }
  const [[, stolen = '']] = (await authoritiesOf(server)).x509 as [string[]]
  const goOn = `To go on: assay rotate -compromised x509 -authorityID ${stolen} -downstreamReady\n`
  const named = /servers below this one cannot be waited for \(spiffe:\/\/example\.org\/cluster-a spiffe:\/\/example\.org\/cluster-b\): /
  const first = await rotateIn(server, '-compromised', 'x509')
  t.match(first, { code: 3, stdout: /\nprepare .*\n$/, stderr: named })
  t.match(first.stderr, goOn)
  t.match(first.stderr, /activate the X\.509 authority once, at each level below, `assay bundle show` has the prepared authority too/)
  t.match((await authoritiesOf(server)).x509, [['active', stolen], ['prepared']])

  const words = ['-compromised', 'x509', '-authorityID', stolen]
  const again = await rotateJson(server, ...words)
  t.match(again, { code: 3, done: false, steps: [], below: { length: 2 }, resume: goOn.slice(10, -1) }, 'nobody has looked')
  const second = await rotateJson(server, ...words, '-downstreamReady')
  t.match(second, { code: 3, done: false, stderr: /"code":"servers_below"/ })
  t.equal(verbsOf(second), 'activate taint', 'who was ready before is not known to be ready after that')
  t.match((await authoritiesOf(server)).published, [2])
  const third = await rotateJson(server, ...words, '-downstreamReady')
  t.match(third, { code: 0, done: true, active: (await authoritiesOf(server)).x509[0]?.[1] })
  t.equal(verbsOf(third), 'revoke')
  t.match((await authoritiesOf(server)).published, [1])

  const tooEarly = await rotateJson(server, '-compromised', 'x509', '-drill', '-downstreamReady')
  t.match(tooEarly, { code: 3, steps: [{ verb: 'prepare' }] }, 'nobody can have looked at what this run did')
  const jwt = await rotateJson(server, '-compromised', 'jwt')
  t.match(jwt, { code: 3, steps: [{ verb: 'prepare' }] })
  const jwtRest = await rotateJson(server, ...String(jwt.resume).split(' ').slice(2))
  t.match(jwtRest, { code: 0, done: true }, 'nothing below hangs on a JWT key that goes')
  t.equal(verbsOf(jwtRest), 'activate taint revoke')
  const forced = await rotateIn(server, '-compromised', 'x509', '-force')
  t.match(forced, { code: 0, stderr: /Warning: servers below this one are not asked, and may break .*: .*cluster-a .*cluster-b\n/ })
})

void t.test('wrong usage, and servers that cannot do it', async t => {
  await using server = await startTestServer({ config: { disableJwtSvids: true } })
  t.match(await rotateIn(server), { code: 2, stderr: /-compromised x509 or -compromised jwt/ })
  t.match(await rotateIn(server, '-compromised', 'jwt'), { code: 1, stderr: /there is no JWT authority/ })
  t.match(await rotateIn(server, '-compromised', 'x509', '-authorityID', 'nobody'), { code: 1, stderr: /code: authority_unknown/ })
  const spire = await serveServices(t, [bind(localAuthorityService, {})])
  t.match(await runAssay(['rotate', '-compromised', 'x509', '-socketPath', spire]), { code: 1, stderr: /code: cluster_api_missing/ })
})

void t.test('a server that dies of a step: whether it was made is read from the authorities', async t => {
  let authorities: AuthorityInit[] = [{ kind: 'x509', authorityId: 'a', state: 'active' }]
  const made: string[] = []
  const head = { epoch: 'e', number: 1n }
  const socket = await serveServices(t, [
    bind(localAuthorityService, {
      async prepareX509Authority () {
        made.push('prepare')
        // The first time it is not made, the second time it is; the answer never comes.
        if (made.length > 1) authorities = [...authorities, { kind: 'x509', authorityId: 'n', state: 'prepared' }]
        throw new SpiffeError('server_stopping', 'the process is stopping')
      },
      async activateX509Authority ({ authorityId }) {
        made.push(`activate ${authorityId}`)
        authorities = [{ kind: 'x509', authorityId: 'n', state: 'active' }, { kind: 'x509', authorityId: 'a', state: 'old' }]
        return { activatedAuthority: { authorityId } }
      }
    }),
    bind(entryService, { listEntries: async () => ({}) }),
    bind(clusterService, {
      getStatus: async () => ({ authorities, head }),
      async * watchConvergence () { yield { cursor: head, converged: true } }
    })
  ])
  const { code, stdout } = await runAssay(['rotate', '-compromised', 'x509', '-drill', '-output', 'json', '-socketPath', socket])
  t.equal(code, 0)
  t.strictSame(made, ['prepare', 'prepare', 'activate n'], 'made again only where it was not made')
  t.match(JSON.parse(stdout), { done: true, active: 'n', steps: [{ verb: 'prepare', authority_id: 'n' }, { verb: 'activate' }] })
})

void t.test('replicas with authorities of their own are not mixed up', async t => {
  const socket = await serveServices(t, [bind(clusterService, {
    getStatus: async () => ({
      datastore: 'postgres', replicas: [{ id: 'a' }, { id: 'b' }], authorities: [{ kind: 'x509', authorityId: 'a', state: 'active' }]
    })
  })])
  const sockets = ['-socketPath', socket, '-socketPath', socket]
  t.match(await runAssay(['rotate', '-compromised', 'x509', ...sockets]), { code: 2, stderr: /each replica has authorities of its own/ })
})

void t.test('a workload of a real agent is served throughout, and in the end by the new authority alone', async t => {
  await using server = await startTestServer()
  await using agent = await startTestAgent(server)
  const agentId = `spiffe://example.org${agent.path}`
  const created = await runAssay(['entry', 'create', '-spiffeID', 'spiffe://example.org/web', '-parentID', agentId, '-selector',
    `unix:uid:${process.getuid?.()}`, '--wait', ...socketOf(server)])
  t.match(created, { code: 0, stdout: new RegExp(`acknowledged  ${agentId}\n$`) })

  const states: X509SVIDResponse[] = []
  const follow = async () => {
    for await (const state of agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)) states.push(state)
  }
  const followed = follow().catch(() => {})
  await eventually('the workload has its SVID', () => states.length > 0)
  const rotation = await rotateJson(server, '-compromised', 'x509')
  t.match(rotation, { code: 0, done: true, steps: { length: 4 } })
  for (const { verb, convergence } of rotation.steps) t.match(convergence.consumers, [{ state: 'acknowledged' }], verb)
  await eventually('the last bundle has come', () => bundleIn(states.at(-1)).x509Authorities.length === 1)
  for (const state of states) {
    const { x509Svid = new Uint8Array() } = state.svids[0] ?? {}
    t.ok(verifyX509Svid(splitCertificates(x509Svid), { bundleOf: () => bundleIn(state), at: new Date() }), 'each state verifies by itself')
  }
  const { subjectKeyId = [] } = parseCertificate(bundleIn(states.at(-1)).x509Authorities[0]?.certificate ?? new Uint8Array())
  t.equal(Buffer.from(subjectKeyId).toString('hex'), rotation.active)
  const updated = await runAssay(['entry', 'update', '-data', '-', '--wait', ...socketOf(server)], { input: JSON.stringify({ entries: [{
    entry_id: /^Entry ID +: (.*)$/m.exec(created.stdout)?.[1], spiffe_id: 'spiffe://example.org/web', parent_id: agentId,
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }], hint: 'later'
  }] }) })
  t.match(updated, { code: 0 }, 'the agent itself is still let in')
  await agent[Symbol.asyncDispose]()
  await followed
  await using late = await startTestAgent(server)
  t.ok(late.path, 'an agent that knows the new authority alone takes the server for what it is')
})

function bundleIn (state: X509SVIDResponse | undefined): Bundle {
  const certificates = splitCertificates(state?.svids[0]?.bundle ?? new Uint8Array())
  const x509Authorities = certificates.map(certificate => ({ certificate, tainted: false }))
  return { trustDomain: parseTrustDomain('example.org'), x509Authorities, jwtAuthorities: [] }
}
