import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId, pathOf } from '../../spiffe/spiffe-id.ts'
import { agentService } from '../../wire/generated/server-agent.ts'
import { spiffeIdText } from '../../wire/spiffe-id-codec.ts'
import { defineCommand, type ExitCode } from '../command.ts'
import { choiceFlag, secondsFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { takeoverFlags, withTakeover } from './takeover-flags.ts'

const prefix = '/spire/agent/join_token/'
const usualTtlSeconds = 600

export const takeoverToken = defineCommand({
  flags: {
    ...takeoverFlags,
    at: choiceFlag('where the agent is to join', ['ours', 'spire'], 'ours'),
    ttl: secondsFlag('how long it may be used', '10m')
  },
  argument: { name: 'AGENT-ID' },
  details: 'Makes the join token of an agent anew, so that the agent that shows it has the same SPIFFE ID and all its entries. The\n' +
    'token is the end of the ID: whoever knows the ID can use it until the agent has. Make it just before the agent moves. Refused\n' +
    'before agents may move (exit code 3).',
  examples: [
    'assay takeover token spiffe://example.org/spire/agent/join_token/d3f29a80-3a3e-4d1f-9a09-6a3bb3e6bd29',
    'assay takeover token -at spire spiffe://example.org/spire/agent/join_token/d3f29a80-3a3e-4d1f-9a09-6a3bb3e6bd29'
  ],
  async run (call) {
    const { flags: { at, ttl = usualTtlSeconds, output }, argument, terminal } = call
    const id = parseSpiffeId(argument)
    if (!pathOf(id).startsWith(prefix)) throw new SpiffeError('agent_id_malformed', `${id} is no ID of an agent that joined by a token`)
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
      const { value } = await (at === 'ours' ? ours : there).client(agentService)
        .createJoinToken({ ttl, token: pathOf(id).slice(prefix.length) }, { signal: terminal.signal })
      terminal.out(output === 'json' ? `${formatJson({ value, ttl, at })}\n` : `Token: ${value}\n`)
      return 0
    })
  }
})
