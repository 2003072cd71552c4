import type { Channel } from '../../rpc/channel.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId, pathOf } from '../../spiffe/spiffe-id.ts'
import { agentService } from '../../wire/generated/server-agent.ts'
import { spiffeIdText } from '../../wire/spiffe-id-codec.ts'
import { defineCommand, type ExitCode } from '../command.ts'
import { choiceFlag, secondsFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { spireGoneFlag, takeoverFlags, withTakeover } from './takeover-flags.ts'
import { isWithoutSpire, nobodyToGoBackTo, withoutSpire } from './takeover-without-spire.ts'

const prefix = '/spire/agent/join_token/'
const usualTtlSeconds = 600

export const takeoverToken = defineCommand({
  flags: {
    ...takeoverFlags,
    at: choiceFlag('where the agent is to join', ['ours', 'spire'], 'ours'),
    ttl: secondsFlag('how long it may be used', '10m'),
    spireGone: spireGoneFlag
  },
  argument: { name: 'AGENT-ID' },
  details: 'Makes the join token of an agent anew, so that the agent that shows it has the same SPIFFE ID and all its entries. The\n' +
    'token is the end of the ID: whoever knows the ID can use it until the agent has. Make it just before the agent moves. Refused\n' +
    'before agents may move (exit code 3). With -spireGone it goes by the agents that SPIRE had when it was last seen.',
  examples: [
    'assay takeover token spiffe://example.org/spire/agent/join_token/d3f29a80-3a3e-4d1f-9a09-6a3bb3e6bd29',
    'assay takeover token -at spire spiffe://example.org/spire/agent/join_token/d3f29a80-3a3e-4d1f-9a09-6a3bb3e6bd29'
  ],
  async run (call) {
    const { flags: { at, ttl = usualTtlSeconds, output }, argument, terminal } = call
    const id = parseSpiffeId(argument)
    if (!pathOf(id).startsWith(prefix)) throw new SpiffeError('agent_id_malformed', `${id} is no ID of an agent that joined by a token`)
    const create = async (server: Channel): Promise<ExitCode> => {
      const { value } = await server.client(agentService)
        .createJoinToken({ ttl, token: pathOf(id).slice(prefix.length) }, { signal: terminal.signal })
      terminal.out(output === 'json' ? `${formatJson({ value, ttl, at })}\n` : `Token: ${value}\n`)
      return 0
    }
    if (await isWithoutSpire(call)) {
      if (at === 'spire') throw nobodyToGoBackTo()
      return await withoutSpire(call, async (takeover, ours) => {
        await takeover.requireMovable(id)
        return await create(ours)
      })
    }
    return await withTakeover(call, async (takeover, { there, ours }): Promise<ExitCode> => {
      const { plan, journal, ours: { agents } } = await takeover.look()
      // One that moved and was evicted at SPIRE goes back there too.
      const isHere = at === 'spire' && agents.some(agent => spiffeIdText(agent.id) === id && !agent.banned)
      if (!isHere && !plan.agents.some(agent => agent.id === id && agent.place !== 'banned')) {
        throw new SpiffeError('agent_not_found', `SPIRE has no agent ${id} that may join`)
      }
      if (at === 'ours' && journal?.phase !== 'open') {
        throw new SpiffeError('takeover_not_settled', 'agents may not move yet: entries are not copied')
      }
      return await create(at === 'ours' ? ours : there)
    })
  }
})
