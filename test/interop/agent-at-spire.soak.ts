import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseToken } from '../../src/jwt/parse-token.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { fetchBundle } from '../fakes/agent-client.ts'
import { securityHeader, startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { capturedLog, type LogLine } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { PopMachines } from '../fakes/pop-machines.ts'
import { SkippingClock } from '../fakes/skipping-clock.ts'
import { withoutSpireServer as skip } from '../fakes/spire.ts'
import { idMessage } from './administrator.ts'
import { ownSvidOf, patienceMs, rootsOf, serves, startAtSpire, stateOf } from './at-spire.ts'

t.setTimeout(900_000)

const id = (path: string) => `spiffe://example.org${path}`

async function newFolder (): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-agents-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** By a token, and by what lets it attest again. */
async function eachKind (folder: string) {
  const machines = await PopMachines.create(folder)
  return { machines, kinds: [{ name: 'with a token', machine: undefined }, { name: 'x509pop', machine: await machines.next() }] }
}

void t.test('SPIRE\'s X.509 authority is replaced, tainted and revoked under our agents (spire-surface §2.2 §2.3)', { skip }, async t => {
  const { machines, kinds } = await eachKind(await newFolder())
  await using server = await startAtSpire({ nodeAttestors: machines.nodeAttestors })
  const { authorities, bundles } = server.operator
  await using scope = new AsyncDisposableStack()
  const agents: TestAgent[] = []
  for (const { name, machine } of kinds) {
    const agent = scope.use(await startTestAgent(server, machine === undefined ? {} : { config: { plugins: machine.plugins } }))
    const path = machine?.path ?? agent.path
    for (const one of ['/a', '/b']) await server.operator.register(id(`${one}-${agents.length}`), id(path))
    await serves(agent, id(`/b-${agents.length}`))
    agents.push(agent)
    t.pass(name)
  }
  const old = (await authorities.getX509AuthorityState({})).active?.authorityId ?? ''
  const next = (await authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
  await authorities.activateX509Authority({ authorityId: next })
  for (const agent of agents) t.strictSame(await rootsOf(agent), [old, old], 'a new authority alone changes nothing that is signed')
  await authorities.taintX509Authority({ authorityId: old })
  for (const agent of agents) {
    const isBelowNext = async () => (await rootsOf(agent)).join() === `${next},${next}`
    await eventually('the workload\'s SVIDs are below the new root', isBelowNext, patienceMs)
    await eventually('and the agent\'s own', async () => (await ownSvidOf(agent)).root === next, patienceMs)
  }
  // SPIRE's server shows an SVID below the old root until it looks at itself, each 5 s.
  await authorities.revokeX509Authority({ authorityId: old })
  t.equal((await bundles.getBundle({})).x509Authorities.length, 1)
  for (const [index, agent] of agents.entries()) {
    const known = async () => (await stateOf(agent))?.svids[0]?.bundle.length ?? 0
    const { asn1 } = (await bundles.getBundle({})).x509Authorities[0] ?? { asn1: new Uint8Array() }
    await eventually('the old root is gone at the workload', async () => await known() === asn1.length, patienceMs)
    await server.operator.register(id('/after'), id(kinds[index]?.machine?.path ?? agent.path))
    await serves(agent, id('/after'))
    t.pass('the agent goes on')
  }
})

void t.test('SPIRE\'s JWT authority is replaced, tainted and revoked (spire-surface §2.3)', { skip }, async t => {
  await using server = await startAtSpire()
  const { authorities } = server.operator
  await using agent = await startTestAgent(server)
  await server.operator.register(id('/web'), id(agent.path))
  await serves(agent, id('/web'))
  const workload = agent.workload.client(workloadService)
  const fetch = async () => (await workload.fetchJWTSVID({ audience: ['test'] }, securityHeader)).svids[0]?.svid ?? ''
  const old = (await authorities.getJWTAuthorityState({})).active?.authorityId ?? ''
  const token = await fetch()
  t.equal(parseToken(token).keyId, old)
  t.equal(await fetch(), token, 'a token is used again')
  const next = (await authorities.prepareJWTAuthority({})).preparedAuthority?.authorityId ?? ''
  await authorities.activateJWTAuthority({ authorityId: next })
  t.equal(await fetch(), token, 'also beside a new authority')
  await authorities.taintJWTAuthority({ authorityId: old })
  await eventually('a token of the new authority', async () => parseToken(await fetch()).keyId === next, patienceMs)
  await authorities.revokeJWTAuthority({ authorityId: old })
  const keys = async () => {
    const { bundles } = await firstOf(workload.fetchJWTBundles({}, securityHeader)) ?? { bundles: {} }
    const own = Object.entries(bundles).find(([domain]) => domain.startsWith('spiffe://example.org'))?.[1] ?? new Uint8Array()
    const { keys } = JSON.parse(Buffer.from(own).toString()) as { readonly keys: ReadonlyArray<{ readonly kid: string }> }
    return keys.map(({ kid }) => kid)
  }
  await eventually('the old key is gone', async () => (await keys()).join() === next, patienceMs)
  await t.rejects(workload.validateJWTSVID({ audience: 'test', svid: token }, securityHeader), { code: 'jwt_svid_invalid' })
  t.match(await workload.validateJWTSVID({ audience: 'test', svid: await fetch() }, securityHeader), { spiffeId: id('/web') })
})

void t.test('a SPIRE server that lost all it had, with each rebootstrap_mode (spire-surface §2.2)', { skip }, async t => {
  const folder = await newFolder()
  const machines = await PopMachines.create(folder)
  const port = await freePort()
  await using scope = new AsyncDisposableStack()
  const first = await startAtSpire({ nodeAttestors: machines.nodeAttestors, port })
  const modes = ['never', 'auto', 'always'] as const
  const agents = new Map<string, { agent: TestAgent, path: string, lines: readonly LogLine[] }>()
  for (const mode of modes) {
    const { path, plugins } = await machines.next()
    const { log, lines } = capturedLog()
    const document = join(folder, `${mode}.json`)
    await writeFile(document, formatBundleDocument(decodeBundle(await fetchBundle(first))))
    const agent = scope.use(await startTestAgent(first, { log, config: {
      plugins, rebootstrap: mode === 'never' ? undefined : { mode, delayMs: 200 }, trustBundlePath: document, trustBundleFormat: 'spiffe'
    } }))
    await first.operator.register(id(`/${mode}`), id(path))
    await serves(agent, id(`/${mode}`))
    agents.set(mode, { agent, path, lines })
  }
  await first[Symbol.asyncDispose]()

  await using second = await startAtSpire({ nodeAttestors: machines.nodeAttestors, port })
  const document = formatBundleDocument(decodeBundle(await fetchBundle(second)))
  for (const [mode, { agent, path, lines }] of agents) {
    const said = (wanted: string) => () => lines.some(({ code }) => code === wanted)
    await eventually(`${mode}: it does not know this server`, said('server_untrusted'), patienceMs)
    if (mode !== 'never') await eventually('nor does what it believes at first contact', said('bootstrap_untrusted'), patienceMs)
    t.equal((await stateOf(agent))?.svids[0]?.spiffeId, id(`/${mode}`), `${mode}: what it knew is served on`)
    await writeFile(join(folder, `${mode}.json`), document)
    await second.operator.register(id('/again'), id(path))
  }
  for (const mode of ['auto', 'always']) {
    const { agent } = agents.get(mode) as { agent: TestAgent }
    await serves(agent, id('/again'))
    t.notOk((await stateOf(agent))?.svids.some(({ spiffeId }) => spiffeId === id(`/${mode}`)), `${mode}: nothing is left of before`)
  }
  const { agent, lines } = agents.get('never') as { agent: TestAgent, lines: readonly LogLine[] }
  t.equal((await stateOf(agent))?.svids[0]?.spiffeId, id('/never'), 'never: it waits for who knows better')
  t.notOk(lines.some(({ msg }) => /first contact/.test(String(msg))))
})

void t.test('an agent that comes back to a SPIRE server at which it is none any more (spire-surface §2.2)', { skip }, async t => {
  const folder = await newFolder()
  const machines = await PopMachines.create(folder)
  await using server = await startAtSpire({ nodeAttestors: machines.nodeAttestors })
  const { agents } = server.operator

  await t.test('one whose data folder was set back to before it was renewed (AGENT_NOT_ACTIVE)', async t => {
    const { path, plugins } = await machines.next()
    for (const config of [{}, { plugins }]) {
      const home = await mkdtemp(join(folder, 'agent-'))
      const [clock, { log, lines }] = [new SkippingClock(0), capturedLog()]
      const before = await startTestAgent(server, { folder: home, clock, log, config })
      const state = await readFile(join(home, 'agent-data.json'))
      clock.skip(31 * 60_000)
      await eventually('it is renewed', () => lines.some(({ msg }) => msg === 'agent SVID renewed'), patienceMs)
      const { serialNumber } = await ownSvidOf(before)
      const agentId = idMessage(id('plugins' in config ? path : before.path))
      const known = async () => (await agents.getAgent({ id: agentId })).x509svidSerialNumber
      await eventually('SPIRE has seen the new one', async () => await known() === serialNumber, patienceMs)
      await before[Symbol.asyncDispose]()
      await writeFile(join(home, 'agent-data.json'), state)
      await using agent = await startTestAgent(server, { folder: home, token: 'used', config })
      if ('plugins' in config) {
        await eventually('it attests again in place', async () => await known() !== serialNumber, patienceMs)
        await server.operator.register(id('/back'), id(path))
        await serves(agent, id('/back'))
      } else {
        await t.rejects(agent.ended, { code: 'agent_not_active' }, 'with a token it ends')
        await t.rejects(ownSvidOf(agent), { code: 'ENOENT' })
      }
    }
  })

  await t.test('banned or evicted while it was away', async t => {
    for (const [act, code] of [['banAgent', 'agent_banned'], ['deleteAgent', 'agent_not_attested']] as const) {
      const home = await mkdtemp(join(folder, 'agent-'))
      const before = await startTestAgent(server, { folder: home })
      await before[Symbol.asyncDispose]()
      await agents[act]({ id: idMessage(id(before.path)) })
      await using agent = await startTestAgent(server, { folder: home, token: 'used' })
      await t.rejects(agent.ended, { code }, act)
      await t.rejects(ownSvidOf(agent), { code: 'ENOENT' })
    }
  })
})
