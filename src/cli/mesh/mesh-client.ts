import type { ClientOf } from '../../rpc/channel.ts'
import { meshService } from '../../wire/generated/agent-sync.ts'
import { withAgentAt } from '../channel-call.ts'
import { pathFlag } from '../flag.ts'
import type { Terminal } from '../terminal.ts'

export const defaultXdsSocket = '/tmp/assay-agent/private/xds.sock'

/** Of every command that talks to an agent as its administrator does. */
export const meshFlags = {
  socketPath: pathFlag('the agent\'s xDS socket', { placeholder: 'PATH', defaultText: `$ASSAY_XDS_SOCKET or ${defaultXdsSocket}` })
}

export function xdsSocketPath (socketPath: string | undefined, environment: Terminal['environment']): string {
  return socketPath ?? environment['ASSAY_XDS_SOCKET'] ?? defaultXdsSocket
}

/** Calls the agent as its node's administrator. @throws {SpiffeError} `server_unreachable`; whatever the agent refuses with */
export async function withMesh<T> (socketPath: string, use: (mesh: ClientOf<typeof meshService.methods>) => Promise<T>): Promise<T> {
  return await withAgentAt(socketPath, channel => use(channel.client(meshService)))
}
