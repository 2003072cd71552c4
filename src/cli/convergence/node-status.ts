import { existsSync } from 'node:fs'
import type { MeshStatus } from '../../wire/generated/agent-sync.ts'
import { pathFlag } from '../flag.ts'
import { defaultXdsSocket, withMesh, xdsSocketPath } from '../mesh/mesh-client.ts'
import { printable } from '../pretty.ts'
import type { Terminal } from '../terminal.ts'

export const nodeFlags = {
  xdsSocketPath: pathFlag('the xDS socket of this node\'s agent, for its proxy\'s state', {
    placeholder: 'PATH', defaultText: `$ASSAY_XDS_SOCKET or, if it is there, ${defaultXdsSocket}`
  })
}

const timeoutMs = 5_000

/**
 * What the agent of this machine says of its proxy. Where no agent runs a mesh, or none that the caller may ask, there is nothing to say;
 * one that was named and does not answer is warned of.
 */
export async function readNodeStatus (socketPath: string | undefined, terminal: Terminal): Promise<MeshStatus | undefined> {
  const path = xdsSocketPath(socketPath, terminal.environment)
  if (path === '' || (path === defaultXdsSocket && !existsSync(path))) return undefined
  try {
    return await withMesh(path, mesh => mesh.getMeshStatus({}, { signal: terminal.signal, timeoutMs }))
  } catch (error) {
    if (!terminal.signal.aborted) terminal.err(`Warning: of this node's proxy nothing is known: ${printable((error as Error).message)}\n`)
    return undefined
  }
}
