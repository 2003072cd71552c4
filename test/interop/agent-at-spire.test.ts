import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { version } from '../../src/runtime/version.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { PermissionDeniedDetails_Reason as Reason } from '../../src/wire/generated/types.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { fetchBundle } from '../fakes/agent-client.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { capturedLog, type LogLine } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { PopMachines } from '../fakes/pop-machines.ts'
import { SkippingClock } from '../fakes/skipping-clock.ts'
import { withoutSpireServer as skip } from '../fakes/spire.ts'
import { idMessage } from './administrator.ts'
import { ownSvidOf, patienceMs, refusalOf, serves, startAtSpire } from './at-spire.ts'

const id = (path: string) => `spiffe://example.org${path}`
/** Of an agent's SVID, which lives for an hour. */
const pastHalfLifeMs = 31 * 60_000

void t.test('an agent\'s life at a real SPIRE server', { skip, timeout: 300_000 }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-agents-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const machines = await PopMachines.create(folder)
  await using server = await startAtSpire({ nodeAttestors: machines.nodeAttestors })
  const { agents } = server.operator
  const renewed = ({ msg }: LogLine) => msg === 'agent SVID renewed'

  await t.test('whom it believes at first contact (spire-surface §2.1)', async t => {
    const [document, stranger] = [join(folder, 'bundle.json'), join(folder, 'stranger.json')]
    await writeFile(document, formatBundleDocument(decodeBundle(await fetchBundle(server))))
    await writeFile(stranger, formatBundleDocument((await createTestAuthority('example.org')).bundle))
    for (const [whom, config] of Object.entries({
      'a server below its bundle, in PEM': {},
      'one below its bundle, as a document of SPIFFE\'s': { trustBundlePath: document, trustBundleFormat: 'spiffe' },
      'whoever answers': { trustBundlePath: undefined, insecureBootstrap: true }
    } as const)) {
      await using agent = await startTestAgent(server, { config })
      t.match(await agents.getAgent({ id: idMessage(id(agent.path)) }), { attestationType: 'join_token', canReattest: false }, whom)
    }
    const wrong = { trustBundlePath: stranger, trustBundleFormat: 'spiffe' } as const
    await t.rejects(startTestAgent(server, { config: wrong }), { code: 'bootstrap_untrusted' }, 'nobody below another root')
    await t.rejects(startTestAgent(server, { token: 'none' }), { message: /join token/ }, 'a token that SPIRE does not know')
  })

  await t.test('after RenewAgent the first call with the new serial ends the old one (spire-surface §2.2)', async t => {
    const clock = new SkippingClock(0)
    const { log, lines } = capturedLog()
    await using agent = await startTestAgent(server, { clock, log })
    await server.operator.register(id('/before'), id(agent.path))
    await serves(agent, id('/before'))
    const old = await ownSvidOf(agent)
    t.equal(await refusalOf(server, old), undefined)
    clock.skip(pastHalfLifeMs)
    await eventually('it is renewed', () => lines.some(renewed), patienceMs)
    await eventually('SPIRE refuses the old one', async () => await refusalOf(server, old) === Reason.AGENT_NOT_ACTIVE, patienceMs)
    const { x509svidSerialNumber } = await agents.getAgent({ id: idMessage(id(agent.path)) })
    t.equal(x509svidSerialNumber, (await ownSvidOf(agent)).serialNumber, 'SPIRE knows it by the new one')
    await server.operator.register(id('/after'), id(agent.path))
    await serves(agent, id('/after'))
    t.notOk(lines.some(({ msg }) => /attesting again/.test(String(msg))), 'nothing was lost on the way')
    await eventually('SPIRE knows its version', async () => {
      return (await agents.getAgent({ id: idMessage(id(agent.path)) })).agentVersion === version
    }, patienceMs)
  })

  await t.test('one that can attest again does so instead of being renewed, and the old serial ends at once', async t => {
    const { path, plugins } = await machines.next()
    const clock = new SkippingClock(0)
    const { log, lines } = capturedLog()
    await using agent = await startTestAgent(server, { clock, log, config: { plugins } })
    const old = await ownSvidOf(agent)
    clock.skip(pastHalfLifeMs)
    await eventually('it is renewed', () => lines.some(renewed), patienceMs)
    t.equal(await refusalOf(server, old), Reason.AGENT_NOT_ACTIVE)
    const { serialNumber: x509svidSerialNumber } = await ownSvidOf(agent)
    t.match(await agents.getAgent({ id: idMessage(id(path)) }), { x509svidSerialNumber, canReattest: true })
    await server.operator.register(id('/after'), id(path))
    await serves(agent, id('/after'))
  })

  await t.test('banned or evicted (spire-surface §2.2)', async t => {
    for (const [act, code] of [['banAgent', 'agent_banned'], ['deleteAgent', 'agent_not_attested']] as const) {
      await using agent = await startTestAgent(server)
      await server.operator.register(id('/web'), id(agent.path))
      await serves(agent, id('/web'))
      await agents[act]({ id: idMessage(id(agent.path)) })
      await t.rejects(agent.ended, { code }, `${act}: an agent with a token ends`)
      await t.rejects(ownSvidOf(agent), { code: 'ENOENT' }, 'and what it was is gone')
    }
    const { path, plugins } = await machines.next()
    await using agent = await startTestAgent(server, { config: { plugins } })
    await server.operator.register(id('/rack'), id(path))
    await serves(agent, id('/rack'))
    const old = await ownSvidOf(agent)
    await agents.deleteAgent({ id: idMessage(id(path)) })
    await eventually('it is an agent again', async () => {
      const known = await agents.getAgent({ id: idMessage(id(path)) }).catch(() => undefined)
      return known !== undefined && known.x509svidSerialNumber !== old.serialNumber
    }, patienceMs)
    await serves(agent, id('/rack'))
    t.pass('evicted, one that can attest again does so in place')
    await agents.banAgent({ id: idMessage(id(path)) })
    await t.rejects(agent.ended, { code: 'agent_banned' })
    await t.rejects(startTestAgent(server, { config: { plugins } }), { message: /agent is banned/ }, 'banned, it does not come back')
  })
})
