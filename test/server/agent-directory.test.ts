import t from 'tap'
import { toStatus } from '../../src/rpc/status.ts'
import { AgentDirectory, type AgentRefusal } from '../../src/server/agent-directory.ts'
import type { Agent } from '../../src/spiffe/agent.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { Status } from '../../src/wire/generated/google-rpc.ts'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as Reason } from '../../src/wire/generated/types.ts'
import { idOf } from '../fakes/entries.ts'

const now = new Date('2026-05-01T12:00:00Z')
const later = new Date(now.getTime() + 1)
const id = idOf('/spire/agent/x/node')

function agent (change: Partial<Agent> = {}): Agent {
  return {
    id,
    attestationType: 'x',
    serialNumber: 'a1',
    expiresAt: later,
    canReattest: false,
    selectors: [],
    banned: false,
    agentVersion: '',
    ...change
  }
}

function directoryWith (...agents: readonly Agent[]) {
  const promoted: string[] = []
  const state = { looks: 0, stored: undefined as Agent | undefined }
  const directory = new AgentDirectory({
    async promote (_id, serial) {
      promoted.push(serial)
      directory.put(agent({ serialNumber: serial }))
      return agent({ serialNumber: serial })
    },
    async catchUp () {
      state.looks++
      if (state.stored !== undefined) directory.put(state.stored)
    }
  })
  for (const one of agents) directory.put(one)
  return { directory, promoted, state }
}

/** What a caller reads in the status of the refusal. */
function reasonOf (error: unknown): number | undefined {
  const { details } = decodeMessage(Status, toStatus(error, 'test').details ?? new Uint8Array())
  const reason = details.find(({ typeUrl }) => typeUrl.endsWith('PermissionDeniedDetails'))
  return reason === undefined ? undefined : decodeMessage(PermissionDeniedDetails, reason.value).reason
}

t.test('why an agent is refused, and the reason its status carries (spire-surface §1.1, §2.2)', async t => {
  const banned = agent({ serialNumber: '', banned: true })
  const cases: ReadonlyArray<readonly [string, AgentRefusal, number, readonly Agent[], string, Date]> = [
    ['its SVID has expired', 'agent_expired', Reason.AGENT_EXPIRED, [agent()], 'a1', now],
    ['expired goes before banned', 'agent_expired', Reason.AGENT_EXPIRED, [banned], 'a1', now],
    ['expired goes before unknown', 'agent_expired', Reason.AGENT_EXPIRED, [], 'a1', now],
    ['nobody attested it', 'agent_not_attested', Reason.AGENT_NOT_ATTESTED, [], 'a1', later],
    ['it is banned', 'agent_banned', Reason.AGENT_BANNED, [banned], 'a1', later],
    ['a blank serial number is nobody\'s', 'agent_banned', Reason.AGENT_BANNED, [banned], '', later],
    ['another SVID is in use', 'agent_not_active', Reason.AGENT_NOT_ACTIVE, [agent()], 'b2', later]
  ]
  for (const [what, code, reason, agents, serial, expiresAt] of cases) {
    const { directory, promoted } = directoryWith(...agents)
    const error: unknown = await directory.admit(id, serial, expiresAt, now).catch((refusal: unknown) => refusal)
    t.match(error, { name: 'SpiffeError', code }, what)
    t.equal(reasonOf(error), reason, `${what}: reason`)
    t.same(promoted, [], `${what}: nothing is promoted`)
  }
})

t.test('the first call with a renewed SVID makes it the current one', async t => {
  const { directory, promoted } = directoryWith(agent({ newSerialNumber: 'b2', newExpiresAt: later }))
  t.equal((await directory.admit(id, 'a1', later, now)).serialNumber, 'a1', 'until then the old one is')
  t.same(promoted, [])
  t.equal((await directory.admit(id, 'b2', later, now)).serialNumber, 'b2')
  t.equal((await directory.admit(id, 'b2', later, now)).serialNumber, 'b2')
  t.same(promoted, ['b2'], 'promoted once')
  await t.rejects(directory.admit(id, 'a1', later, now), { code: 'agent_not_active' }, 'the old one no longer is')
})

t.test('nobody is refused on an old view, but for a ban', async t => {
  const { directory, state } = directoryWith()
  state.stored = agent({ serialNumber: 'b2' })
  t.equal((await directory.admit(id, 'b2', later, now)).serialNumber, 'b2', 'attested at another replica a moment ago')
  state.stored = agent({ serialNumber: 'b2', newSerialNumber: 'c3' })
  t.equal((await directory.admit(id, 'c3', later, now)).serialNumber, 'c3', 'renewed there')
  t.equal(state.looks, 2)
  directory.put(agent({ banned: true, serialNumber: '' }))
  await t.rejects(directory.admit(id, 'c3', later, now), { code: 'agent_banned' })
  t.equal(state.looks, 2, 'a ban needs no second look')
})
