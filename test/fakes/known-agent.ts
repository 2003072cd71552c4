import { openUnixChannel } from '../../src/rpc/channel.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'

/** What a server, ours or SPIRE's, knows of an agent; `undefined`: nothing. */
export async function agentOf (adminSocket: string, path: string): Promise<unknown> {
  await using channel = openUnixChannel(adminSocket)
  const { agents } = await channel.client(agentService).listAgents({})
  const found = agents.find(({ id }) => id?.path === path)
  return found && {
    type: found.attestationType, reattests: found.canReattest,
    selectors: found.selectors.map(({ type, value }) => `${type}:${value}`).toSorted()
  }
}
