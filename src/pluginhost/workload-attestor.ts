import type { WorkloadAttestor } from '../attestation/workload/workload-attestor.ts'
import type { ExternalProgram } from '../plugins/external-program.ts'
import type { CallOptions, ClientOf } from '../rpc/channel.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { encodeMessage } from '../wire/encode-message.ts'
import { WorkloadPIDReference } from '../wire/generated/broker.ts'
import { type AttestResponse, workloadAttestorPluginService } from '../wire/generated/plugin-workload-attestor.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

type Client = ClientOf<typeof workloadAttestorPluginService.methods>

/** As long as a plugin may take that waits for somebody else, such as a container runtime. */
const patienceMs = 30_000

/** SPIRE's plugin type `WorkloadAttestor`. Its name is the type of its selectors. */
export async function startExternalWorkloadAttestor (
  name: string, program: ExternalProgram, host: PluginHost, signal: AbortSignal
): Promise<WorkloadAttestor & AsyncDisposable> {
  const service = workloadAttestorPluginService
  const plugin = await ExternalPlugin.start({ type: 'WorkloadAttestor', name, program, service: service.name }, host, signal)
  return {
    name,
    patienceMs,
    async attest ({ pid }, signal) {
      const { selectorValues } = await plugin.call((channel, options) => attestPid(channel.client(service), pid, options), {
        signal, timeoutMs: patienceMs
      })
      return selectorValues.map(value => ({ type: name, value }))
    },
    [Symbol.asyncDispose]: () => plugin[Symbol.asyncDispose]()
  }
}

/** Newer plugins may know references alone, of which a PID is one (Broker API §3.1.3). */
async function attestPid (client: Client, pid: number, options: CallOptions): Promise<Pick<AttestResponse, 'selectorValues'>> {
  try {
    return await client.attest({ pid }, options)
  } catch (error) {
    if (!(error instanceof RpcError) || error.status !== 'UNIMPLEMENTED') throw error
  }
  const reference = {
    typeUrl: `type.googleapis.com/${WorkloadPIDReference.name}`, value: encodeMessage(WorkloadPIDReference, { pid })
  }
  return await client.attestReference({ reference }, options)
}
