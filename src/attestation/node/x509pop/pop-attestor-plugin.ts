import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import { parsedBy } from '../../../runtime/config-schema.ts'
import { parseAgentSocket } from '../../../spiffe/endpoint-address.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { createPopAttestor, type FetchWorkloadSvid, type PopAttestorConfig, readCredentials } from './pop-attestor.ts'

const path = z.string().min(1, 'must not be empty')

const schema = z.strictObject({
  private_key_path: path.optional(),
  certificate_path: path.optional(),
  intermediates_path: z.string().optional(),
  spiffe_endpoint_socket: parsedBy(parseAgentSocket).optional()
}).transform(({
  private_key_path: keyPath, certificate_path: certificatePath, intermediates_path: intermediates, spiffe_endpoint_socket: socketPath
}, context): PopAttestorConfig => {
  const refuse = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message, input: undefined })
  if (socketPath !== undefined) {
    const files = { private_key_path: keyPath, certificate_path: certificatePath, intermediates_path: intermediates }
    for (const [key, value] of Object.entries(files)) if (value !== undefined) refuse(key, 'says nothing beside spiffe_endpoint_socket')
    return { socketPath }
  }
  if (keyPath === undefined) refuse('private_key_path', 'is required')
  if (certificatePath === undefined) refuse('certificate_path', 'is required')
  if (keyPath === undefined || certificatePath === undefined) return z.NEVER
  return { keyPath, certificatePath, intermediatesPath: intermediates?.trim() === '' ? undefined : intermediates }
})

interface Host {
  /** What this agent is to another's Workload API. */
  readonly fetchWorkloadSvid: FetchWorkloadSvid
}

export const popAttestorPlugin: Plugin<NodeAttestor & AsyncDisposable, PopAttestorConfig, Host> = {
  name: 'x509pop',
  config: schema,
  async start (config, { fetchWorkloadSvid }) {
    // As in SPIRE: files that are not there keep the agent from starting; another agent is asked when it is time.
    if (!('socketPath' in config)) await readCredentials(config)
    return { ...createPopAttestor(config, fetchWorkloadSvid), [Symbol.asyncDispose]: async () => {} }
  }
}
