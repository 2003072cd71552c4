import type { WorkloadAttestor } from '../attestation/workload/workload-attestor.ts'
import type { ExternalProgram } from '../plugins/external-program.ts'
import { workloadAttestorPluginService } from '../wire/generated/plugin-workload-attestor.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

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
      const { selectorValues } = await plugin.call((channel, options) => channel.client(service).attest({ pid }, options), {
        signal, timeoutMs: patienceMs
      })
      return selectorValues.map(value => ({ type: name, value }))
    },
    [Symbol.asyncDispose]: () => plugin[Symbol.asyncDispose]()
  }
}
