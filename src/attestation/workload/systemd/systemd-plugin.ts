import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import { createSystemdAttestor, type SystemdAttestorConfig } from './systemd-attestor.ts'

export const systemdPlugin: Plugin<WorkloadAttestor & AsyncDisposable, SystemdAttestorConfig, unknown> = {
  name: 'systemd',
  config: z.strictObject({
    bus_socket_path: z.string().startsWith('/', 'must be an absolute path').default('/run/dbus/system_bus_socket')
  }).transform(({ bus_socket_path: busSocketPath }) => ({ busSocketPath })),
  async start (config) {
    const attestor = createSystemdAttestor(config)
    return { ...attestor, [Symbol.asyncDispose]: async () => attestor[Symbol.dispose]() }
  }
}
